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
Result<Strategy> find_strategy(const std::string& name);

}  // namespace memo::estimate
