// The gaps of an allocator, and a walk over births and deaths.
#include "memo/pack/best_fit.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

namespace memo::pack {
namespace {

class Gaps {
 public:
  Gaps() { insert(0, std::numeric_limits<std::int64_t>::max()); }

  // Takes `size` bytes from the smallest gap that holds them at a multiple of `alignment`. The topmost gap always does.
  std::int64_t take(std::int64_t size, std::int64_t alignment) {
    for (auto it = by_size_.lower_bound({size, 0});; ++it) {
      const auto [length, begin] = *it;
      const std::int64_t offset = begin % alignment == 0 ? begin : begin + (alignment - begin % alignment);
      if (offset - begin > length - size) continue;
      cut(begin, offset, offset + size);
      return offset;
    }
  }
  // Takes the free parts of [begin, end).
  void reserve(std::int64_t begin, std::int64_t end) {
    auto it = ends_.upper_bound(begin);
    if (it != ends_.begin()) --it;
    while (it != ends_.end() && it->first < end) {
      const auto [first, last] = *it++;
      if (last > begin) cut(first, std::max(first, begin), std::min(last, end));
    }
  }
  void give(std::int64_t begin, std::int64_t end) {
    const auto above = ends_.find(end);
    if (above != ends_.end()) {
      const std::int64_t last = above->second;
      erase(end);
      end = last;
    }
    const auto next = ends_.lower_bound(begin);
    if (next != ends_.begin() && std::prev(next)->second == begin) {
      begin = std::prev(next)->first;
      erase(begin);
    }
    insert(begin, end);
  }

 private:
  void cut(std::int64_t gap, std::int64_t begin, std::int64_t end) {
    const std::int64_t last = ends_.at(gap);
    erase(gap);
    if (gap < begin) insert(gap, begin);
    if (end < last) insert(end, last);
  }
  void insert(std::int64_t begin, std::int64_t end) {
    ends_.emplace(begin, end);
    by_size_.emplace(end - begin, begin);
  }
  void erase(std::int64_t begin) {
    const auto it = ends_.find(begin);
    by_size_.erase({it->second - begin, begin});
    ends_.erase(it);
  }
  std::map<std::int64_t, std::int64_t> ends_;                // by begin
  std::set<std::pair<std::int64_t, std::int64_t>> by_size_;  // length, begin
};

// `born` and `dies` bound lives in the direction in which time runs.
template <class Born, class Dies>
std::vector<std::int64_t> best_fit(const Instance& instance, Born born, Dies dies) {
  Gaps gaps;
  std::vector<std::int64_t> offsets(instance.size());
  std::vector<std::size_t> births;
  for (std::size_t i = 0; i < instance.size(); ++i) {
    const Buffer& b = instance[i];
    if (b.fixed)
      gaps.reserve(offsets[i] = *b.fixed, *b.fixed + b.size);
    else
      births.push_back(i);
  }
  std::vector<std::size_t> deaths = births;
  std::stable_sort(births.begin(), births.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(born(instance[a]), -instance[a].size) < std::pair(born(instance[b]), -instance[b].size);
  });
  std::stable_sort(deaths.begin(), deaths.end(),
                   [&](std::size_t a, std::size_t b) { return dies(instance[a]) < dies(instance[b]); });
  auto dead = deaths.begin();
  for (const std::size_t i : births) {
    for (; dies(instance[*dead]) <= born(instance[i]); ++dead)
      gaps.give(offsets[*dead], offsets[*dead] + instance[*dead].size);
    offsets[i] = gaps.take(instance[i].size, instance[i].alignment);
  }
  return offsets;
}

}  // namespace

std::vector<std::int64_t> best_fit_forward(const Instance& instance) {
  return best_fit(
      instance, [](const Buffer& b) { return b.lower; }, [](const Buffer& b) { return b.upper; });
}

std::vector<std::int64_t> best_fit_backward(const Instance& instance) {
  return best_fit(
      instance, [](const Buffer& b) { return -b.upper; }, [](const Buffer& b) { return -b.lower; });
}

}  // namespace memo::pack
