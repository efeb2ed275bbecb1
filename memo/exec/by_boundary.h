// Items grouped by a boundary of the program, in list order within it: a counting sort, since boundaries are 0..calls.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "memo/plan/program.h"

namespace memo::exec {

// `I`: how items are counted.
template <class I>
class ByBoundary {
 public:
  template <class Item>
  ByBoundary(const std::vector<Item>& items, plan::Boundary Item::*boundary, std::size_t calls)
      : first_(calls + 2), order_(items.size()) {
    for (const Item& item : items) ++first_[item.*boundary + 1];
    for (plan::Boundary k(1); k < first_.end_index(); ++k) first_[k] += first_[k - 1];
    IndexedVector<plan::Boundary, std::size_t> next = first_;
    for (std::size_t i = 0; i < items.size(); ++i) order_[next[items[i].*boundary]++] = I(i);
  }

  [[nodiscard]] std::span<const I> at(plan::Boundary k) const {
    return std::span(order_).subspan(first_[k], first_[k + 1] - first_[k]);
  }

 private:
  IndexedVector<plan::Boundary, std::size_t> first_;  // [calls + 2]: where boundary k begins in order_
  std::vector<I> order_;                              // [items]
};

}  // namespace memo::exec
