// Systems with which people train long contexts, as presets of a setup.
#pragma once

#include <string>
#include <vector>

#include "memo/estimate/setup.h"

namespace memo::estimate {

struct Strategy {
  std::string name, words;
  void (*apply)(Setup& setup) = nullptr;
  // The degrees that its users would set.
  bool tensor = false, ring = false, ulysses = false, pipeline = false;
  bool in_memo = false;  // memo tries this placement anyway, so it needs no search of its own
};

const std::vector<Strategy>& strategies();
std::vector<std::string> strategy_names();
// The kernel of attention that Memo takes for a setup: the fastest of its own (memo/gpu/attention.h) that apply and
// whose rate is known; empty: the GPU's usual one.
std::string attention_of_memo(const Setup& setup);
Result<Strategy> find_strategy(const std::string& name);

}  // namespace memo::estimate
