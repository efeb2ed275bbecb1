// Exact search for hundreds of buffers, depth first: does an instance fit a capacity?
//
// In the section with the lowest floor, either some buffer lies on the floor (one branch each), or none does (the last
// branch). A state that has failed is not searched again. Where no waiting buffer lives on both sides of a time, the
// two sides are searched separately.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "memo/pack/skyline.h"

namespace memo::pack {

class DepthFirst {
 public:
  explicit DepthFirst(Skyline& skyline);

  // Among equal choices the buffer with the larger `priority` goes first. Gives up when `nodes`, the number of buffers
  // left to place, runs out, or when `interrupted`. States that failed are remembered from one call to the next.
  Verdict search(std::int64_t capacity, const std::vector<float>& priority, std::int64_t& nodes,
                 const std::function<bool()>& interrupted);

 private:
  Verdict solve(Range part, std::size_t depth);
  Verdict solve_parts(Range part, std::size_t depth);

  Skyline& skyline_;
  const std::vector<float>* priority_ = nullptr;
  const std::function<bool()>* interrupted_ = nullptr;
  std::int64_t nodes_left_ = 0;
  std::vector<std::uint64_t> failed_;                 // keys of states, by their low bits
  std::vector<std::vector<Skyline::Index>> choices_;  // by depth
};

}  // namespace memo::pack
