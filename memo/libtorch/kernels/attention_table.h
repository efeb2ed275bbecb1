// The kernels of attention that a device has, each with its limits. A profile times those that apply to a job and takes
// the fastest (memo/libtorch/measure/attention_choice.h); the plan names it, and its run takes that one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>

#include "memo/base/result.h"
#include "memo/libtorch/kernels/attention.h"

namespace memo::libtorch {

// What a model and a job ask of attention.
struct AttentionNeeds {
  at::ScalarType dtype = at::kFloat;
  std::int64_t head_dim = 0;
  float softcap = 0;
  bool window = false;     // queries do not see all keys before them
  bool documents = false;  // a sequence may have several
  bool in_order = false;   // gradients have the same bits in every run
};

struct AttentionLimits {
  bool float32 = false;                                                       // takes it beside bfloat16
  std::int64_t most_dim = 0;                                                  // of a head; 0: any
  std::int64_t dim_multiple = 1;                                              // heads are multiples of this
  bool softcap = false, window = false, documents = false, in_order = false;  // whether it has them
};

struct AttentionKernel {
  const char* name;  // in profile.json and for train.attention
  AttentionLimits limits;
  decltype(&causal_attention) forward;
  decltype(&causal_attention_backward) backward;
};

// A device's kernels. The first has all that any of its others has, and is taken where nothing was measured.
std::span<const AttentionKernel> attention_kernels(c10::DeviceType device);
// The one of this name; of no name, the first.
Result<const AttentionKernel*> attention_named(std::span<const AttentionKernel> kernels, const std::string& name);

// Why a kernel does not do what is asked, such as "heads of 100 values; it takes multiples of 8 up to 256"; empty: it
// does.
std::string why_not(const AttentionLimits& limits, const AttentionNeeds& needs);

}  // namespace memo::libtorch
