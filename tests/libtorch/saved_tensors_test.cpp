// The hooks see everything that autograd saves, from custom functions and from LibTorch's own operators, and gradients
// do not depend on where a keeper keeps it.
#include "memo/libtorch/memory/saved_tensors.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <memory>
#include <set>
#include <stdexcept>
#include <thread>

#include "memo/libtorch/memory/allocator.h"

namespace memo::libtorch {
namespace {

namespace autograd = torch::autograd;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const void* storage_of(const at::Tensor& tensor) { return tensor.storage().data(); }
at::Tensor leaf(at::IntArrayRef shape) { return at::randn(shape).requires_grad_(); }
at::Tensor gradient(const at::Tensor& y, const at::Tensor& x) {
  return autograd::grad({y}, {x}, {at::ones_like(y)})[0];
}

// Declines every tensor, and remembers their storages.
struct Observer : SavedTensorKeeper {
  std::optional<std::any> pack(const at::Tensor& tensor) override {
    seen.insert(storage_of(tensor));
    grad_functions += tensor.grad_fn() != nullptr ? 1 : 0;
    return std::nullopt;
  }
  at::Tensor unpack(const std::any&) override { throw std::logic_error("nothing was packed"); }
  std::multiset<const void*> seen;
  int grad_functions = 0;
};

// Keeps the bytes of all but the given storages in buffers of its own, and can spoil the originals.
struct Mover : SavedTensorKeeper {
  explicit Mover(const std::vector<at::Tensor>& parameters = {}) {
    for (const auto& parameter : parameters) stay.insert(storage_of(parameter));
  }
  struct Buffer {
    std::vector<std::byte> bytes;
    std::vector<std::int64_t> sizes, strides;
    at::ScalarType type;
  };
  std::optional<std::any> pack(const at::Tensor& tensor) override {
    if (stay.contains(storage_of(tensor))) return std::nullopt;
    EXPECT_TRUE(tensor.is_non_overlapping_and_dense());
    const auto* begin = static_cast<const std::byte*>(tensor.const_data_ptr());
    originals.push_back(tensor.storage());
    ++alive;
    return std::shared_ptr<Buffer>(
        new Buffer{
            {begin, begin + tensor.nbytes()}, tensor.sizes().vec(), tensor.strides().vec(), tensor.scalar_type()},
        [this](Buffer* buffer) {
          delete buffer;
          --alive;
        });
  }
  at::Tensor unpack(const std::any& handle) override {
    const auto& buffer = *std::any_cast<const std::shared_ptr<Buffer>&>(handle);
    auto tensor = at::empty_strided(buffer.sizes, buffer.strides, buffer.type);
    std::memcpy(tensor.mutable_data_ptr(), buffer.bytes.data(), buffer.bytes.size());
    unpacked_on.insert(std::this_thread::get_id());
    return tensor;
  }
  void spoil_originals() {
    for (auto& storage : originals)
      std::memset(storage.mutable_data(), 0xff, storage.nbytes());  // NaN in any float type
    originals.clear();
  }
  std::set<const void*> stay;
  std::vector<at::Storage> originals;
  std::set<std::thread::id> unpacked_on;
  int alive = 0;  // handles that autograd holds
};

// x sin(x): saves an input, an intermediate and its output.
struct XSinX : autograd::Function<XSinX> {
  static at::Tensor forward(autograd::AutogradContext* ctx, const at::Tensor& x) {
    const auto sine = at::sin(x);
    const auto y = x * sine;
    last_sine = storage_of(sine);
    ctx->save_for_backward({x, sine, y});
    return y;
  }
  static autograd::variable_list backward(autograd::AutogradContext* ctx, autograd::variable_list d) {
    const auto saved = ctx->get_saved_variables();  // x, sin(x), x sin(x)
    ran_on = std::this_thread::get_id();
    return {d[0] * (saved[1] + saved[0] * at::cos(saved[0]) + 0 * saved[2])};
  }
  static inline const void* last_sine = nullptr;
  static inline std::thread::id ran_on;
};

class SavedTensorsTest : public testing::Test {
 protected:
  SavedTensorsTest() {
    install_allocator();
    install_saved_tensor_hooks();
    at::manual_seed(1);
  }
};

TEST_F(SavedTensorsTest, ACustomFunctionsInputsIntermediatesAndOutputsAreSeen) {
  Observer keeper;
  const auto x = leaf({4});
  at::Tensor y;
  {
    const SavedTensorScope scope(keeper);
    y = XSinX::apply(x);
  }
  EXPECT_THAT(keeper.seen, UnorderedElementsAre(storage_of(x), storage_of(y), XSinX::last_sine));
  EXPECT_EQ(keeper.grad_functions, 0) << "a keeper that holds its argument makes no cycle";
  const auto analytic = at::sin(x) + x * at::cos(x);
  EXPECT_TRUE(at::allclose(gradient(y, x), analytic));
}

TEST_F(SavedTensorsTest, LibTorchsOperatorsSaveWhatTheirDerivativesNeed) {
  const auto x = leaf({5, 8}), w = leaf({6, 8}), b = leaf({6}), scale = leaf({8}), shift = leaf({8});
  const auto seen_in = [](const auto& function) {
    Observer keeper;
    const SavedTensorScope scope(keeper);
    const at::Tensor y = function();
    auto seen = keeper.seen;
    if (const auto output = seen.find(storage_of(y)); output != seen.end()) {
      seen.erase(output);
      seen.insert(nullptr);  // stands for the output
    }
    return seen;
  };
  const void *X = storage_of(x), *W = storage_of(w), *output = nullptr;
  EXPECT_THAT(seen_in([&] { return at::linear(x, w, b); }), UnorderedElementsAre(X, W)) << "w as a transposed view";
  EXPECT_THAT(seen_in([&] { return at::mm(x, w.t()); }), UnorderedElementsAre(X, W));
  EXPECT_THAT(seen_in([&] { return at::silu(x); }), UnorderedElementsAre(X));
  EXPECT_THAT(seen_in([&] { return at::gelu(x); }), UnorderedElementsAre(X));
  EXPECT_THAT(seen_in([&] { return at::sigmoid(x); }), UnorderedElementsAre(output));
  EXPECT_THAT(seen_in([&] { return x + b.sum(); }), IsEmpty());
  const auto norm = seen_in([&] { return at::layer_norm(x, {8}, scale, shift); });
  EXPECT_EQ(norm.size(), 5U) << "x, scale, shift, mean, reciprocal deviation";
  EXPECT_THAT(norm, testing::IsSupersetOf({X, storage_of(scale), storage_of(shift)}));
  EXPECT_THAT(seen_in([&] { return at::rms_norm(x, {8}, scale); }), testing::IsSupersetOf({X, storage_of(scale)}));
}

// Two layers of norm, linear, silu, custom function, linear, with a residual.
struct Network {
  std::vector<at::Tensor> parameters{leaf({16}), leaf({32, 16}), leaf({16, 32})};
  at::Tensor operator()(at::Tensor x) const {
    for (int layer = 0; layer < 2; ++layer) {
      const auto h = at::linear(at::rms_norm(x, {16}, parameters[0]), parameters[1]);
      x = x + at::linear(XSinX::apply(at::silu(h)), parameters[2]);
    }
    return x;
  }
};

TEST_F(SavedTensorsTest, AKeeperThatMovesEverythingChangesNoBitOfTheGradients) {
  const Network network;
  const auto x = leaf({24, 16});
  auto inputs = network.parameters;
  inputs.push_back(x);
  const auto expected = [&] {
    const auto y = network(x);
    return autograd::grad({y}, inputs, {at::ones_like(y)});
  }();

  Mover keeper(inputs);
  at::Tensor y;
  {
    const SavedTensorScope scope(keeper);
    y = network(x);
  }
  EXPECT_GT(keeper.alive, 10);
  const auto ones = at::ones_like(y);
  keeper.spoil_originals();
  const auto gradients = autograd::grad({y}, inputs, {ones});
  for (std::size_t i = 0; i < inputs.size(); ++i) EXPECT_TRUE(at::equal(gradients[i], expected[i])) << i;
  EXPECT_EQ(keeper.alive, 0) << "backward lets go of every handle";
}

TEST_F(SavedTensorsTest, BackwardRunsAndUnpacksOnTheThreadThatAsksForIt) {
  const auto x = leaf({4});
  Mover keeper;
  const auto y = [&] {
    const SavedTensorScope scope(keeper);
    return XSinX::apply(x);
  }();
  std::thread::id caller;
  std::thread([&] {
    caller = std::this_thread::get_id();
    gradient(y, x);
  }).join();
  EXPECT_EQ(XSinX::ran_on, caller);
  EXPECT_THAT(keeper.unpacked_on, UnorderedElementsAre(caller));
}

TEST_F(SavedTensorsTest, ScopesNestAndTheInnermostCounts) {
  Observer outer, inner;
  const auto x = leaf({4}), y = leaf({4}), z = leaf({4});
  const SavedTensorScope outer_scope(outer);
  at::silu(x);
  {
    const SavedTensorScope inner_scope(inner);
    at::silu(y);
  }
  at::silu(z);
  EXPECT_THAT(outer.seen, UnorderedElementsAre(storage_of(x), storage_of(z)));
  EXPECT_THAT(inner.seen, UnorderedElementsAre(storage_of(y)));
}

TEST_F(SavedTensorsTest, ThreadsHaveTheirOwnKeepers) {
  Observer mine, theirs;
  const auto x = leaf({4}), y = leaf({4}), unkept = leaf({4});
  const SavedTensorScope scope(mine);
  std::thread([&] {
    at::silu(unkept);
    const SavedTensorScope their_scope(theirs);
    at::silu(y);
  }).join();
  at::silu(x);
  EXPECT_THAT(mine.seen, UnorderedElementsAre(storage_of(x)));
  EXPECT_THAT(theirs.seen, UnorderedElementsAre(storage_of(y)));
}

TEST_F(SavedTensorsTest, WithoutAScopeAutogradIsAsItWas) {
  const auto x = leaf({4});
  const auto y = at::silu(x);
  EXPECT_NO_THROW(gradient(y, x));
  EXPECT_THROW(gradient(y, x), c10::Error) << "a second time through a graph that was let go";
}

TEST_F(SavedTensorsTest, InsideBackwardAnotherBackwardMayRun) {
  struct Rerun : Mover {  // unpacks by running a segment again, as recomputation does
    at::Tensor unpack(const std::any& handle) override {
      const at::AutoGradMode with_gradients(true);
      Mover inner;
      const SavedTensorScope scope(inner);
      const auto x = Mover::unpack(handle).requires_grad_();
      reentered = gradient(XSinX::apply(x), x).defined();
      return x.detach();
    }
    bool reentered = false;
  };
  const auto x = leaf({4});
  const auto expected = gradient(at::silu(x), x);
  Rerun keeper;
  const auto y = [&] {
    const SavedTensorScope scope(keeper);
    return at::silu(x);
  }();
  EXPECT_TRUE(at::equal(gradient(y, x), expected));
  EXPECT_TRUE(keeper.reentered);
}

struct TierFailed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

TEST_F(SavedTensorsTest, WhatUnpackThrowsBackwardThrowsAndTheNextBackwardWorks) {
  struct Failing : Mover {
    at::Tensor unpack(const std::any& handle) override {
      if (fail) throw TierFailed("the disk tier lost block 3");
      return Mover::unpack(handle);
    }
    bool fail = true;
  };
  const auto x = leaf({4});
  Failing keeper;
  const auto make = [&] {
    const SavedTensorScope scope(keeper);
    return at::silu(x);
  };
  try {
    gradient(make(), x);
    FAIL() << "backward did not throw";
  } catch (const TierFailed& failure) {
    EXPECT_STREQ(failure.what(), "the disk tier lost block 3");
  }
  EXPECT_EQ(keeper.alive, 0);
  keeper.fail = false;
  EXPECT_TRUE(at::equal(gradient(make(), x), gradient(at::silu(x), x)));
}

TEST_F(SavedTensorsTest, WhatPackThrowsTheOperatorThrows) {
  struct Full : Observer {
    std::optional<std::any> pack(const at::Tensor&) override { throw TierFailed("the disk tier is full"); }
  } keeper;
  const SavedTensorScope scope(keeper);
  EXPECT_THROW(at::silu(leaf({4})), TierFailed);
}

TEST_F(SavedTensorsTest, ADeclinedOutputIsFreedWithItsGraph) {
  const auto x = leaf({1000});
  Observer keeper;
  const SavedTensorScope scope(keeper);
  const Bytes before = heap_use().live;
  { const auto y = XSinX::apply(at::sigmoid(x)); }  // both save their output
  EXPECT_EQ(heap_use().live, before);
}

TEST_F(SavedTensorsTest, ADeclinedTensorThatIsModifiedInPlaceIsFoundOut) {
  const auto x = leaf({4});
  Observer keeper;
  const SavedTensorScope scope(keeper);
  const auto h = x * 2;
  const auto y = at::silu(h);
  h.add_(1);
  EXPECT_THROW(gradient(y, x), c10::Error);
}

TEST_F(SavedTensorsTest, AGraphThatIsKeptUnpacksAgain) {
  const auto x = leaf({4});
  Mover keeper;
  const SavedTensorScope scope(keeper);
  const auto y = at::silu(x);
  const auto first = autograd::grad({y}, {x}, {at::ones_like(y)}, /*retain_graph=*/true)[0];
  EXPECT_EQ(keeper.alive, 1);
  EXPECT_TRUE(at::equal(gradient(y, x), first));
  EXPECT_EQ(keeper.alive, 0);
}

TEST_F(SavedTensorsTest, InstallingAgainChangesNothing) {
  install_saved_tensor_hooks();
  Observer keeper;
  const SavedTensorScope scope(keeper);
  at::silu(leaf({4}));
  EXPECT_EQ(keeper.seen.size(), 1U);
}

}  // namespace
}  // namespace memo::libtorch
