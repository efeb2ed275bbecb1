// Runs small operands through kernels, and looks for operators in LibTorch's dispatcher.
#include "memo/libtorch/measure/kernels_found.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "memo/libtorch/kernels/attention_table.h"
#include "memo/libtorch/kernels/kernels.h"

namespace memo::libtorch {
namespace {

// Why `work` does not run; empty: it does.
std::string failure_of(Device& device, const std::function<void()>& work) {
  try {
    device.run(work);
    device.finish();
    return "";
  } catch (const std::exception& error) {
    const std::string text = error.what();  // LibTorch's goes on with a backtrace
    return text.substr(0, text.find('\n'));
  }
}

void run_attention(const AttentionKernel& kernel, at::Device place, std::int64_t dim) {
  constexpr std::int64_t tokens = 128, queries = 2, keys = 1;
  const auto options = at::dtype(at::kBFloat16).device(place);
  const GroupHeads heads{queries, keys, dim};
  const at::Tensor qkv = at::full({tokens, (queries + 2 * keys) * dim}, 0.1, options);
  const auto [o, lse] = kernel.forward(qkv, heads, {}, {});
  kernel.backward(o, qkv, o, lse, heads, {});
}

// These launches are checked (memo/gpu/kernels.cpp).
void run_own_kernel(at::Device place) {
  const auto doubles = at::dtype(at::kDouble).device(place);
  const at::Tensor x = at::full({1000}, 1.0, at::dtype(at::kFloat).device(place));
  sum_squares(x, at::zeros({square_sums}, doubles), at::zeros({1}, doubles));
}

std::string why_not_in_table(const char* operation, at::Device place) {
  const auto key = c10::DispatchKeySet(c10::computeDispatchKey(at::kBFloat16, c10::kStrided, place));
  const auto found = c10::Dispatcher::singleton().findSchema({operation, ""});
  if (found && found->hasKernelForDispatchKey(key.highestPriorityTypeId())) return "";
  return "not in this LibTorch";
}

}  // namespace

std::vector<KernelFound> kernels_found(Device& device) {
  const at::Device place = device.of_tensors();
  std::vector<KernelFound> found;
  found.push_back({"Memo's own", true, failure_of(device, [&] { run_own_kernel(place); })});
  const auto kernels = attention_kernels(place.type());
  for (const AttentionKernel& kernel : kernels)
    for (const std::int64_t dim : {64, 128, 256})
      if (why_not(kernel.limits, {at::kBFloat16, dim}).empty())
        found.push_back({fmt::format("attention by {}, heads of {}", kernel.name, dim), &kernel == &kernels.front(),
                         failure_of(device, [&] { run_attention(kernel, place, dim); })});
  found.push_back({"memory-efficient attention", false, why_not_in_table("aten::_efficient_attention_forward", place)});
  return found;
}

}  // namespace memo::libtorch
