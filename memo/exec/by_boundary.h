// Items grouped by a boundary of the program, in list order within it: a counting sort, since boundaries are 0..calls.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace memo::exec {

class ByBoundary {
 public:
  template <class Item>
  ByBoundary(const std::vector<Item>& items, int Item::*boundary, std::size_t calls)
      : first_(calls + 2), order_(items.size()) {
    for (const Item& item : items) ++first_[static_cast<std::size_t>(item.*boundary) + 1];
    for (std::size_t k = 1; k < first_.size(); ++k) first_[k] += first_[k - 1];
    std::vector<std::size_t> next = first_;
    for (std::size_t i = 0; i < items.size(); ++i)
      order_[next[static_cast<std::size_t>(items[i].*boundary)]++] = static_cast<int>(i);
  }

  [[nodiscard]] std::span<const int> at(std::size_t k) const {
    return std::span(order_).subspan(first_[k], first_[k + 1] - first_[k]);
  }

 private:
  std::vector<std::size_t> first_;  // [calls + 2]: where boundary k begins in order_
  std::vector<int> order_;          // [items]
};

}  // namespace memo::exec
