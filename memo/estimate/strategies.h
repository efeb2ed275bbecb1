// What people train long contexts with, as presets of a setup.
#pragma once

#include <string>
#include <vector>

#include "memo/estimate/setup.h"

namespace memo::estimate {

struct Strategy {
  std::string name, words;
  void (*apply)(Setup& setup) = nullptr;
  // Which degrees its users would set.
  bool tensor = false, ring = false, ulysses = false, pipeline = false;
  bool in_memo = false;  // a placement that memo looks at anyway: not worth a search of its own
};

const std::vector<Strategy>& strategies();
std::vector<std::string> strategy_names();
Result<Strategy> find_strategy(const std::string& name);

}  // namespace memo::estimate
