// Which kernel of attention a profile is of: those that apply are timed at lengths that matter, and the fastest is
// taken.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "memo/libtorch/kernels/attention_table.h"
#include "memo/libtorch/measure/attention_time.h"
#include "memo/libtorch/memory/device.h"
#include "memo/plan/profile.h"

namespace memo::libtorch {

// The calls of core attention.
struct CoreCalls {
  GroupHeads heads;
  at::ScalarType dtype = at::kFloat;
  Tokens context;
  std::int64_t window = 0;
  bool any_window = false;  // other layers have one
  bool documents = false;   // there may be several in a sequence
  bool in_order = true;     // gradients are to have the same bits in every run
};

struct AttentionChoice {
  const AttentionKernel* kernel = nullptr;
  std::vector<plan::AttentionTime> measured;  // of all that apply
  // Seconds of the kernel's calls by length. Empty where nothing was measured.
  std::vector<std::pair<Length, double>> forward, backward;
};

// Chooses among `kernels`, or takes the one that is `wanted` by name ("auto": the fastest), in whatever order it adds.
// Kernels are timed one after the other on warm clocks, from short sequences to ones that take a quarter of a second;
// those that fail, or whose results are not the first one's, are told to `say` and left out. An error: none applies.
Result<AttentionChoice> choose_attention(std::span<const AttentionKernel> kernels, const std::string& wanted,
                                         const CoreCalls& calls, Device& device,
                                         const std::function<void(const std::string&)>& say = {});

}  // namespace memo::libtorch
