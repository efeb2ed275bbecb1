// Finds kernels by name, and holds what is asked against their limits.
#include "memo/libtorch/kernels/attention_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "memo/base/check.h"
#include "memo/libtorch/kernels/table.h"
#include "memo/libtorch/memory/device_kind.h"

namespace memo::libtorch {
namespace {

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "float32";
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    case at::kDouble:
      return "float64";
    default:
      return c10::toString(dtype);
  }
}

}  // namespace

std::span<const AttentionKernel> attention_kernels(c10::DeviceType device) {
  const DeviceKind* kind = kind_of(device);
  MEMO_CHECK(kind != nullptr, "attention is of a device in the registry");
  return kind->kernels == nullptr ? cpu_kernels().attention : kind->kernels().attention;
}

Result<const AttentionKernel*> attention_named(std::span<const AttentionKernel> kernels, const std::string& name) {
  if (name.empty()) return &kernels.front();
  const auto found = std::ranges::find(kernels, name, &AttentionKernel::name);
  if (found != kernels.end()) return &*found;
  std::string names;
  for (const AttentionKernel& kernel : kernels) names += (names.empty() ? "" : ", ") + std::string(kernel.name);
  return bad_input(fmt::format("there is no kernel of attention '{}', but {}", name, names));
}

std::string why_not(const AttentionLimits& limits, const AttentionNeeds& needs) {
  const bool known = needs.dtype == at::kBFloat16 || (needs.dtype == at::kFloat && limits.float32);
  if (!known)
    return fmt::format("{}; it takes {}", dtype_name(needs.dtype), limits.float32 ? "float32 or bfloat16" : "bfloat16");
  if ((limits.most_dim > 0 && needs.head_dim > limits.most_dim) || needs.head_dim % limits.dim_multiple != 0)
    return fmt::format("heads of {} values; it takes multiples of {} up to {}", needs.head_dim, limits.dim_multiple,
                       limits.most_dim);
  if (needs.softcap != 0 && !limits.softcap) return "a soft cap of the scores";
  if (needs.window && !limits.window) return "a sliding window";
  if (needs.documents && !limits.documents) return "several documents in a sequence";
  if (needs.in_order && !limits.in_order) return "gradients of the same bits in every run";
  return "";
}

}  // namespace memo::libtorch
