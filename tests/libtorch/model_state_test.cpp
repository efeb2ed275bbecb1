// Weights, gradients and optimizer state: how much memory they are and where in it, what initialises and updates them,
// and that a tier behind changes nothing.
#include "memo/libtorch/model/model_state.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/libtorch/tiny_job.h"

namespace memo::libtorch {
namespace {

using model::LayerIndex;
using testing::HasSubstr;

constexpr std::array dtypes{job::DType::float32, job::DType::bfloat16};

std::vector<StateGroup> groups_of(const model::Shape& shape) {
  std::vector<StateGroup> groups{{}};
  for (const LayerIndex layer : indices<LayerIndex>(static_cast<int>(shape.layers)))
    for (const model::Stage stage : {model::Stage::before, model::Stage::after}) groups.push_back({layer, stage});
  return groups;
}

StateGroup group_of(const model::ParameterSpec& spec) {
  return spec.layer.exists() ? StateGroup{spec.layer, spec.stage} : StateGroup{};
}

// The tensors of parameter i that lie in a region: weights, gradients, optimizer.
std::array<std::vector<at::Tensor>, 3> tensors_of(const ModelState& state, std::size_t i) {
  std::vector<at::Tensor> optimizer{state.first_moments()[i], state.second_moments()[i]};
  if (!state.masters()[i].is_same(state.parameters()[i].value)) optimizer.push_back(state.masters()[i]);
  return {std::vector{state.parameters()[i].value}, {state.parameters()[i].gradient}, optimizer};
}

// Everything that outlives a step, of every parameter in turn.
std::vector<at::Tensor> contents(ModelState& state) {
  std::vector<at::Tensor> result;
  for (std::size_t i = 0; i < state.specs().size(); ++i) {
    EXPECT_TRUE(state.bring(i));
    for (const at::Tensor& tensor : {state.parameters()[i].value, state.masters()[i], state.first_moments()[i],
                                     state.second_moments()[i], state.parameters()[i].gradient})
      result.push_back(tensor.clone());
  }
  return result;
}

void expect_equal(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i].nan_to_num(), b[i].nan_to_num())) << i;
}

void fill_gradients(ModelState& state, std::uint64_t seed) {
  at::manual_seed(seed);
  for (const Parameter& parameter : state.parameters()) parameter.gradient.normal_();
}

// A step's updates, as its calls make them; whether all groups were accepted.
bool update_all(ModelState& state, const model::Shape& shape, const job::TrainOptions& options, std::int64_t step,
                double lr) {
  std::vector<StateGroup> order = groups_of(shape);
  std::rotate(order.begin(), order.begin() + 1, order.end());  // that of no layer comes last
  for (const StateGroup& group : order)
    if (group.layer.exists()) state.measure_gradients(group);
  bool all = true;
  for (const StateGroup& group : order) {
    const bool accepted = state.accepts(group, options, {});
    if (accepted) state.update(group, options, step, lr);
    all = all && accepted;
  }
  state.end_step({});
  return all;
}

class ModelStateTest : public testing::Test {
 protected:
  const OneThread one_thread;
  const model::Shape shape = shape_of(tiny_job());
};

TEST_F(ModelStateTest, TensorsFillTheirGroupsRegionsSideBySideAtMultiplesOf64Bytes) {
  for (const job::DType dtype : dtypes) {
    WholeModel model(shape, dtype, 1);
    struct Piece {
      const std::byte *begin, *end;
    };
    std::vector<Piece> pieces;
    std::map<StateGroup, std::array<std::int64_t, 3>> filled;
    for (std::size_t i = 0; i < model.state.specs().size(); ++i) {
      const StateGroup group = group_of(model.state.specs()[i]);
      const StateRegions regions = model.whole.regions(model.memory.data(), group);
      const auto tensors = tensors_of(model.state, i);
      for (std::size_t kind = 0; kind < 3; ++kind)
        for (const at::Tensor& tensor : tensors[kind]) {
          const auto* begin = static_cast<const std::byte*>(tensor.const_data_ptr());
          EXPECT_EQ((begin - model.memory.data()) % 64, 0);
          EXPECT_EQ(begin, regions[kind] + filled[group][kind]) << model.state.specs()[i].name << ", " << kind;
          filled[group][kind] += (static_cast<std::int64_t>(tensor.nbytes()) + 63) / 64 * 64;
          pieces.push_back({begin, begin + tensor.nbytes()});
        }
    }
    std::int64_t all = 0;
    for (const StateGroup& group : groups_of(shape)) {
      const int element = dtype == job::DType::bfloat16 ? 2 : 4;
      const model::StateBytes bytes = model::state_bytes(shape, element, group.layer, group.stage);
      EXPECT_EQ(Bytes(filled[group][0]), bytes.weights);
      EXPECT_EQ(Bytes(filled[group][1]), bytes.gradients);
      EXPECT_EQ(Bytes(filled[group][2]), bytes.optimizer);
      for (const std::int64_t one : filled[group]) all += one;
    }
    EXPECT_EQ(model.whole.bytes(), Bytes(all));
    std::ranges::sort(pieces, {}, &Piece::begin);
    for (std::size_t i = 0; i + 1 < pieces.size(); ++i) EXPECT_LE(pieces[i].end, pieces[i + 1].begin);
    EXPECT_GE(pieces.front().begin, model.memory.data());
    EXPECT_LE(pieces.back().end, model.memory.data() + all);
  }
}

TEST_F(ModelStateTest, ItHasThePositionsAndNumbersOfTheModelsParameters) {
  const WholeModel model(shape, job::DType::float32, 1);
  EXPECT_EQ(model.state.parameter_count(), model::parameter_count(shape));
  for (std::size_t i = 0; i < model.state.specs().size(); ++i) {
    const at::IntArrayRef wanted = model.state.specs()[i].shape;
    for (const auto& tensors : tensors_of(model.state, i))
      for (const at::Tensor& tensor : tensors) EXPECT_EQ(tensor.sizes(), wanted) << model.state.specs()[i].name;
    EXPECT_EQ(model.state.masters()[i].scalar_type(), at::kFloat);
    EXPECT_EQ(model.state.parameters()[i].gradient.scalar_type(), at::kFloat);
  }
}

TEST_F(ModelStateTest, RandomWeightsAreAFunctionOfTheSeedAndOfWhatTheParametersAre) {
  WholeModel a(shape, job::DType::float32, 1), same(shape, job::DType::float32, 1),
      other(shape, job::DType::float32, 1);
  WholeModel half(shape, job::DType::bfloat16, 1);
  ASSERT_TRUE(a.state.initialise(7));
  ASSERT_TRUE(same.state.initialise(7));
  ASSERT_TRUE(other.state.initialise(8));
  ASSERT_TRUE(half.state.initialise(7));
  expect_equal(contents(a.state), contents(same.state));
  for (std::size_t i = 0; i < a.state.specs().size(); ++i) {
    const model::ParameterSpec& spec = a.state.specs()[i];
    const at::Tensor& value = a.state.parameters()[i].value;
    EXPECT_TRUE(at::equal(half.state.masters()[i], a.state.masters()[i])) << "masters are of no dtype: " << spec.name;
    EXPECT_TRUE(at::equal(half.state.parameters()[i].value, value.to(at::kBFloat16))) << spec.name;
    EXPECT_EQ(a.state.first_moments()[i].abs().max().item<float>(), 0);
    EXPECT_EQ(a.state.second_moments()[i].abs().max().item<float>(), 0);
    if (spec.init == model::Init::one || spec.init == model::Init::zero) {
      const float constant = spec.init == model::Init::one ? 1 : 0;
      EXPECT_TRUE(at::equal(value, at::full_like(value, constant))) << spec.name;
      continue;
    }
    const double scale = spec.init == model::Init::normal ? 1 : std::sqrt(2.0 * static_cast<double>(shape.layers));
    EXPECT_NEAR(value.std().item<double>(), shape.init_std / scale, 0.1 * shape.init_std / scale) << spec.name;
    EXPECT_FALSE(at::equal(value, other.state.parameters()[i].value)) << spec.name;
  }
}

TEST_F(ModelStateTest, WeightsFollowTheMastersThatAChangeSets) {
  WholeModel model(shape, job::DType::bfloat16, 1);
  at::manual_seed(1);
  std::vector<at::Tensor> wanted;
  for (const model::ParameterSpec& spec : model.state.specs()) wanted.push_back(at::randn(spec.shape));
  ASSERT_TRUE(model.state.change([&](std::size_t i) -> Status {
    model.state.masters()[i].copy_(wanted[i]);
    return {};
  }));
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_TRUE(at::equal(model.state.masters()[i], wanted[i]));
    EXPECT_TRUE(at::equal(model.state.parameters()[i].value, wanted[i].to(at::kBFloat16)));
  }
}

TEST_F(ModelStateTest, UpdatesOfItsGroupsAreAdamWOfAllParametersClippedByTheNormOfAllGradients) {
  for (const double clip : {0.0, 1.0, 1e6})
    for (const job::DType dtype : dtypes) {
      WholeModel model(shape, dtype, 1);
      ModelState& state = model.state;
      ASSERT_TRUE(state.initialise(3));
      job::TrainOptions options;
      options.clip = clip;
      std::vector<at::Tensor> wanted, m, v;
      for (const at::Tensor& master : state.masters()) {
        wanted.push_back(master.to(at::kDouble));
        m.push_back(at::zeros_like(wanted.back()));
        v.push_back(at::zeros_like(wanted.back()));
      }
      for (int step = 1; step <= 3; ++step) {
        const double lr = 0.01 * step;
        state.begin_step();
        fill_gradients(state, static_cast<std::uint64_t>(step));
        std::vector<at::Tensor> gradients;
        double squares = 0;
        for (const Parameter& parameter : state.parameters()) {
          gradients.push_back(parameter.gradient.to(at::kDouble));
          squares += gradients.back().square().sum().item<double>();
        }
        const double norm = std::sqrt(squares), scale = clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1;
        EXPECT_TRUE(update_all(state, shape, options, step, lr));
        EXPECT_NEAR(state.gradient_norm(), norm, 1e-9 * norm);
        EXPECT_TRUE(state.updated());
        EXPECT_FALSE(state.refused());
        for (std::size_t i = 0; i < wanted.size(); ++i) {
          const at::Tensor g = gradients[i] * scale;
          m[i] = options.beta1 * m[i] + (1 - options.beta1) * g;
          v[i] = options.beta2 * v[i] + (1 - options.beta2) * g * g;
          const at::Tensor m_hat = m[i] / (1 - std::pow(options.beta1, step));
          const at::Tensor v_hat = v[i] / (1 - std::pow(options.beta2, step));
          const double decay = state.specs()[i].decays ? options.weight_decay : 0;
          wanted[i] = wanted[i] * (1 - lr * decay) - lr * m_hat / (v_hat.sqrt() + options.eps);
          EXPECT_TRUE(at::allclose(state.masters()[i].to(at::kDouble), wanted[i], 1e-5, 1e-6))
              << state.specs()[i].name << ", step " << step << ", clip " << clip;
          EXPECT_TRUE(at::equal(state.parameters()[i].value, state.masters()[i].to(scalar_type(dtype))));
        }
      }
    }
}

TEST_F(ModelStateTest, AStepWhoseGradientsAreNotFiniteChangesNothingAndNamesTheParameter) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    WholeModel model(shape, job::DType::float32, 1);
    ModelState& state = model.state;
    ASSERT_TRUE(state.initialise(3));
    state.begin_step();
    fill_gradients(state, 4);
    const auto broken = std::ranges::find(state.specs(), "layers.1.out", &model::ParameterSpec::name);
    ASSERT_NE(broken, state.specs().end());
    state.parameters()[static_cast<std::size_t>(broken - state.specs().begin())].gradient.select(0, 0).fill_(bad);
    const std::vector<at::Tensor> before = contents(state);
    EXPECT_FALSE(update_all(state, shape, {}, 1, 0.1));
    expect_equal(contents(state), before);
    EXPECT_TRUE(state.refused());
    EXPECT_FALSE(state.updated());
    EXPECT_EQ(state.not_finite({LayerIndex(1), model::Stage::after}), "layers.1.out");
    EXPECT_EQ(state.not_finite({LayerIndex(0), model::Stage::after}), "");
    state.begin_step();
    fill_gradients(state, 5);
    EXPECT_TRUE(update_all(state, shape, {}, 1, 0.1)) << "the next step is judged anew";
  }
}

TEST_F(ModelStateTest, AStepBeginsWithoutTheGradientsOfNoLayerAndZeroesThoseOfLayersWhenAsked) {
  WholeModel model(shape, job::DType::float32, 1);
  fill_gradients(model.state, 6);
  const auto is_zero = [&](std::size_t i) {
    return model.state.parameters()[i].gradient.abs().max().item<float>() == 0;
  };
  model.state.begin_step();
  for (std::size_t i = 0; i < model.state.specs().size(); ++i)
    EXPECT_EQ(is_zero(i), !model.state.specs()[i].layer.exists()) << model.state.specs()[i].name;
  model.state.zero_gradients({LayerIndex(1), model::Stage::before});
  for (std::size_t i = 0; i < model.state.specs().size(); ++i) {
    const StateGroup group = group_of(model.state.specs()[i]);
    EXPECT_EQ(is_zero(i), !group.layer.exists() || group == (StateGroup{LayerIndex(1), model::Stage::before}));
  }
}

// Keeps the content of every group of a layer apart from the one region that they share, and counts.
class OneRegion final : public StatePager {
 public:
  OneRegion(const model::Shape& shape, job::DType dtype) {
    const int element = dtype == job::DType::bfloat16 ? 2 : 4;
    for (const StateGroup& group : groups_of(shape)) {
      const model::StateBytes bytes = model::state_bytes(shape, element, group.layer, group.stage);
      sizes_[group] = {bytes.weights.value(), bytes.gradients.value(), bytes.optimizer.value()};
      for (const std::int64_t size : sizes_[group]) most_ = std::max(most_, size);
    }
    shared_ = std::make_unique<Arena>(*Arena::map(Bytes(6 * most_)));
  }
  StateRegions regions(const StateGroup& group) const {
    std::byte* begin = shared_->data() + (group.layer.exists() ? 3 * most_ : 0);
    return {begin, begin + most_, begin + 2 * most_};
  }
  Status fetch(const StateGroup& group) override {
    ++fetched;
    if (group == fails) return run_time_error("the tier lost it");
    return each(group, [](std::byte* here, std::byte* there, std::size_t size) { std::memcpy(here, there, size); });
  }
  Status store(const StateGroup& group) override {
    return each(group, [](std::byte* here, std::byte* there, std::size_t size) { std::memcpy(there, here, size); });
  }
  int fetched = 0;
  std::optional<StateGroup> fails;

 private:
  template <class F>
  Status each(const StateGroup& group, const F& move) {
    const StateRegions here = regions(group);
    for (std::size_t kind = 0; kind < 3; ++kind) {
      auto& there = away_[group][kind];
      there.resize(static_cast<std::size_t>(sizes_[group][kind]));
      move(here[kind], there.data(), there.size());
    }
    return {};
  }

  std::map<StateGroup, std::array<std::int64_t, 3>> sizes_;
  std::map<StateGroup, std::array<std::vector<std::byte>, 3>> away_;
  std::int64_t most_ = 0;
  std::unique_ptr<Arena> shared_;
};

TEST_F(ModelStateTest, OnATierItIsTheSameAsInMemory) {
  for (const job::DType dtype : dtypes) {
    WholeModel plain(shape, dtype, 1);
    OneRegion pager(shape, dtype);
    ModelState paged(
        shape, dtype, [&](const StateGroup& group) { return pager.regions(group); }, &pager);
    ASSERT_TRUE(plain.state.initialise(9));
    ASSERT_TRUE(paged.initialise(9));
    expect_equal(contents(paged), contents(plain.state));
    EXPECT_EQ(paged.gradient_digest().value(), plain.state.gradient_digest().value());
    for (ModelState* state : {&paged, &plain.state})
      ASSERT_TRUE(state->change([&](std::size_t i) -> Status {
        state->masters()[i].add_(static_cast<double>(i));
        state->second_moments()[i].fill_(static_cast<double>(i));
        return {};
      }));
    expect_equal(contents(paged), contents(plain.state));
    for (std::size_t i = 0; i < plain.state.specs().size(); ++i) {  // in any order
      const std::size_t last = plain.state.specs().size() - 1 - i;
      ASSERT_TRUE(paged.bring(last));
      EXPECT_TRUE(at::equal(paged.masters()[last], plain.state.masters()[last]));
    }
  }
}

TEST_F(ModelStateTest, AGroupThatIsInMemoryIsNotFetchedAgainUntilAStepBegins) {
  OneRegion pager(shape, job::DType::float32);
  ModelState state(
      shape, job::DType::float32, [&](const StateGroup& group) { return pager.regions(group); }, &pager);
  ASSERT_TRUE(state.initialise(1));
  pager.fetched = 0;
  const std::size_t first = [&] {
    std::size_t i = 0;
    while (!state.specs()[i].layer.exists()) ++i;
    return i;
  }();
  ASSERT_TRUE(state.bring(0)) << "of no layer: always there";
  EXPECT_EQ(pager.fetched, 0);
  ASSERT_TRUE(state.bring(first));
  ASSERT_TRUE(state.bring(first));
  ASSERT_TRUE(state.bring(first + 1));
  EXPECT_EQ(pager.fetched, 1);
  state.begin_step();
  ASSERT_TRUE(state.bring(first));
  EXPECT_EQ(pager.fetched, 2);
}

TEST_F(ModelStateTest, WhatTheTierFailsIsTheErrorOfWhoAsked) {
  OneRegion pager(shape, job::DType::float32);
  ModelState state(
      shape, job::DType::float32, [&](const StateGroup& group) { return pager.regions(group); }, &pager);
  ASSERT_TRUE(state.initialise(1));
  pager.fails = StateGroup{LayerIndex(1), model::Stage::after};
  EXPECT_THAT(state.initialise(1).error().message, HasSubstr("the tier lost it"));
  EXPECT_THAT(state.gradient_digest().error().message, HasSubstr("the tier lost it"));
  pager.fails.reset();
  EXPECT_TRUE(state.gradient_digest());
}

}  // namespace
}  // namespace memo::libtorch
