// The sizes of calls that Memo's executor would choose on one GPU of a setup.
#pragma once

#include <vector>

#include "memo/estimate/setup.h"

namespace memo::estimate {

// Sets block and head groups as a run on this hardware would choose them (model::DeviceSizes), where `block` and
// `groups` are 0. Returns the modelled times of the blocks among which it chose; empty: there was no choice.
std::vector<model::BlockTime> choose_sizes(Setup& setup);
// From this context on a run of strategy memo with one head group, whose plan recomputes or waits, tries a group for
// each key head too. Below, a group's operands are small on any GPU, and sizes must not depend on noise.
inline constexpr Tokens regroups_from{32768};
// What a run tries one after the other where no plan fits: a head group for each key head, then smaller blocks.
std::vector<Setup> finer(const Setup& setup);

}  // namespace memo::estimate
