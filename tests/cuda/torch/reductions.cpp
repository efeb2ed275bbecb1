// How ATen splits a reduction over threads (aten/src/ATen/native/cuda/Reduce.cuh, setReduceConfig), with dimensions
// ordered and merged by LibTorch's own TensorIterator; and how each operator makes its iterator (native/ReduceOps.cpp,
// LinearAlgebra.cpp) and accumulates (native/cuda/Reduce*Kernel.cu).
#include "tests/cuda/torch/reductions.h"

#include <ATen/ceil_div.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/ReduceOpsUtils.h>
#include <c10/core/Allocator.h>
#include <c10/cuda/CUDAException.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <string>

namespace memo::cuda::emulated {
namespace {

std::int64_t power_of_two(std::int64_t at_most, std::int64_t limit) {
  if (at_most >= limit) return limit;
  return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(std::max<std::int64_t>(at_most, 1))));
}

struct Accumulation {
  std::int64_t bytes = 0;   // of an accumulator
  std::int64_t vector = 4;  // inputs that a thread loads at once, where they are neighbours
  bool in_result = true;    // whether the result can hold parts
};

// Results that a thread loads inputs of at once: the largest of 4, 2 and 1 that all offsets are multiples of.
std::int64_t results_at_once(const at::TensorIterator& iter) {
  const int input = iter.noutputs();
  const std::int64_t element = iter.element_size(input);
  const auto address = reinterpret_cast<std::uintptr_t>(iter.data_ptr(input));
  std::int64_t count = 4;
  const auto divides = [&](std::int64_t n) {
    while (n % count != 0) count /= 2;
  };
  divides(static_cast<std::int64_t>(address / static_cast<std::uintptr_t>(element)));
  divides(iter.shape()[iter.num_reduce_dims()]);
  for (int d = 0; d < iter.ndim(); ++d)
    if (d != iter.num_reduce_dims()) divides(iter.strides(input)[d] / element);
  return count;
}

// The bytes of the buffer and of the counters; none where each result has one block.
std::pair<std::int64_t, std::int64_t> scratch_bytes(const at::TensorIterator& iter, const Accumulation& how) {
  const int input = iter.ntensors() - 1, reduced = iter.num_reduce_dims();
  const std::int64_t results = iter.num_output_elements(), inputs = iter.numel() / results;
  const std::int64_t element = iter.element_size(input);
  const auto strides = iter.strides(input);
  const bool scalar = iter.ndim() == 0;
  const bool along = scalar || reduced == iter.ndim() || strides[0] < strides[reduced];  // inputs of one are neighbours
  std::int64_t x = scalar ? 1 : along ? inputs : results, y = scalar ? 1 : along ? results : inputs;
  std::int64_t at_once = 1;
  if (const std::int64_t nearest = scalar ? element : strides[along ? 0 : reduced]; nearest == element) {
    if (along && x >= 128 && reduced == 1) x /= how.vector;
    if (!along) x /= at_once = results_at_once(iter);
  }
  const std::int64_t threads = 512 / at_once, most_x = power_of_two(x, threads), most_y = power_of_two(y, threads);
  const std::int64_t height = std::min(most_y, threads / std::min<std::int64_t>(most_x, 32));
  const std::int64_t width = std::min(most_x, threads / height);
  std::int64_t inputs_together = along ? width : 1, results_together = along ? 1 : width;
  const auto a_thread = [&] { return at::ceil_div<std::int64_t>(inputs, inputs_together); };
  const bool rows_share = a_thread() >= std::min<std::int64_t>(height * 16, 256);
  (rows_share ? inputs_together : results_together) *= height;

  cudaDeviceProp device{};
  C10_CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
  const std::int64_t wanted = device.multiProcessorCount * (device.maxThreadsPerMultiProcessor / (width * height));
  const std::int64_t groups = at::ceil_div<std::int64_t>(results / at_once, results_together);
  if (!rows_share || a_thread() < 256 || groups > wanted) return {0, 0};
  const std::int64_t blocks =
      std::max(std::min(at::ceil_div<std::int64_t>(wanted, groups), at::ceil_div<std::int64_t>(a_thread(), 16)),
               at::ceil_div<std::int64_t>(a_thread(), 256));
  if (blocks <= 1) return {0, 0};
  return {how.bytes * results * blocks * (along ? 1 : width * at_once), 4 * groups};
}

c10::DataPtr memory(std::int64_t bytes) {
  return c10::GetAllocator(c10::kCUDA)->allocate(static_cast<std::size_t>(bytes));
}

void ask(at::TensorIterator& iter, const Accumulation& how, bool parts, std::vector<c10::DataPtr>& held) {
  if (!iter.can_use_32bit_indexing()) {
    if (!how.in_result && !parts) {  // sums of sub-ranges, for every result
      std::int64_t extent = iter.element_size(0);
      for (int d = 0; d < iter.ndim(); ++d) extent = std::max(extent, iter.shape()[d] * iter.strides(0)[d]);
      held.push_back(memory(extent / iter.element_size(0) * how.bytes));
    }
    for (at::TensorIterator& part : iter.with_32bit_indexing()) {
      std::vector<c10::DataPtr> of_part;
      ask(part, how, true, of_part);
    }
    return;
  }
  const auto [buffer, counters] = scratch_bytes(iter, how);
  if (buffer == 0) return;
  held.push_back(memory(buffer));
  held.push_back(memory(counters));
}

bool low(const at::Tensor& t) { return t.scalar_type() == at::kHalf || t.scalar_type() == at::kBFloat16; }

}  // namespace

ReductionMemory memory_of_reduction(const c10::OperatorHandle& op, const std::vector<c10::IValue>& arguments,
                                    const std::vector<at::Tensor>& results) {
  const std::string& name = op.schema().name();
  const auto is = [&](auto... names) { return ((name == names) || ...); };
  const bool sums = is("aten::sum", "aten::mean"), norm = is("aten::linalg_vector_norm");
  const bool index = is("aten::argmax", "aten::argmin"), truth = is("aten::any", "aten::all");
  const bool extreme = is("aten::amax", "aten::amin", "aten::max", "aten::min");
  if (!sums && !norm && !index && !truth && !extreme) return {};
  std::vector<std::int64_t> dims;
  bool keeps = false;
  for (std::size_t a = 0; a < arguments.size(); ++a) {
    const std::string& argument = op.schema().arguments()[a].name();
    if (argument == "other") return {};
    if (argument == "keepdim") keeps = arguments[a].toBool();
    if (argument != "dim" || arguments[a].isNone()) continue;
    if (arguments[a].isInt()) dims = {arguments[a].toInt()};
    if (arguments[a].isIntList()) dims = arguments[a].toIntVector();
  }
  at::Tensor self = arguments[0].toTensor(), result = results[0];
  if (self.numel() == 0 || self.dim() == 0) return {};
  if (index && dims.empty()) self = self.reshape({-1});
  if (name == "aten::max" || name == "aten::min") self = dims.empty() ? self.contiguous() : self;

  ReductionMemory memory;
  Accumulation how;
  const at::ScalarType type = self.scalar_type(), out = result.scalar_type();
  if (sums)
    memory.operands.emplace(at::meta::make_reduction_from_out_ty(self, result, dims, keeps, out));
  else if (norm)
    memory.operands.emplace(at::native::make_reduction("vector_norm", result, self, dims, keeps, out));
  else if (results.size() == 2)
    memory.operands.emplace(at::meta::make_reduction(self, result, results[1], dims, keeps, type, at::kLong));
  else
    memory.operands.emplace(at::meta::make_reduction(self, result, dims, keeps, type));
  const at::Tensor& input = memory.operands->tensor(memory.operands->ntensors() - 1);
  how.bytes = truth ? 1 : index || results.size() == 2 ? 16 : (sums || norm) && low(input) ? 4 : input.element_size();
  if (name == "aten::sum" && input.element_size() == 2) how.vector = 8;
  how.in_result = !index && results.size() == 1 && !(low(input) && input.scalar_type() == out);
  ask(*memory.operands, how, false, memory.scratch);
  return memory;
}

}  // namespace memo::cuda::emulated
