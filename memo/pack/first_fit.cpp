// Sets of addresses, and the segment tree over sections.
#include "memo/pack/first_fit.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace memo::pack {

void AddressSet::add(Span span, std::int64_t least) {
  const auto first = std::partition_point(
      spans_.begin(), spans_.end(), [&](const Span& s) { return s.end < span.begin && span.begin - s.end >= least; });
  auto last = first;
  for (; last != spans_.end() && (last->begin <= span.end || last->begin - span.end < least); ++last) {
    span.begin = std::min(span.begin, last->begin);
    span.end = std::max(span.end, last->end);
  }
  if (first == last) {
    spans_.insert(first, span);
  } else {
    *first = span;
    spans_.erase(first + 1, last);
  }
}

FirstFit::FirstFit(const Instance& instance) : instance_(instance), sections_(instance) {
  least_ = std::numeric_limits<std::int64_t>::max();
  for (const Buffer& b : instance) least_ = std::min(least_, b.size);
  leaves_ = std::bit_ceil(std::max(sections_.count, 1U));
  cover_.resize(2 * static_cast<std::size_t>(leaves_));
  touch_.resize(2 * static_cast<std::size_t>(leaves_));
}

// Calls `canonical` for each of the disjoint nodes that make up the buffer's sections, and `above` for each of their
// ancestors.
template <class Canonical, class Above>
void FirstFit::visit(std::uint32_t buffer, Canonical canonical, Above above) const {
  for (const Range& range : sections_.of(buffer)) {
    const std::uint32_t first = range.first + leaves_, last = range.last + leaves_;
    for (std::uint32_t l = first, r = last; l < r; l >>= 1, r >>= 1) {
      if (l & 1) canonical(l++);
      if (r & 1) canonical(--r);
    }
    for (int level = 1; (leaves_ >> level) > 0; ++level) {
      const std::uint32_t left = first >> level, right = (last - 1) >> level;
      const bool cut_left = left << level != first, cut_right = (last >> level) << level != last;
      if (cut_left) above(left);
      if (cut_right && !(cut_left && left == right)) above(right);
    }
  }
}

std::int64_t FirstFit::lowest_free(std::uint32_t buffer) {
  cursors_.clear();
  const auto look = [&](const AddressSet& set) {
    if (!set.spans().empty()) cursors_.push_back({set.spans().data(), set.spans().data() + set.spans().size()});
  };
  visit(
      buffer, [&](std::uint32_t node) { look(touch_[node]); }, [&](std::uint32_t node) { look(cover_[node]); });
  const std::int64_t size = instance_[buffer].size, alignment = instance_[buffer].alignment;
  std::int64_t offset = 0;
  // Raises the offset until no set raises it further.
  for (std::size_t agreed = 0, i = 0; agreed < cursors_.size(); i = i + 1 == cursors_.size() ? 0 : i + 1) {
    Cursor& cursor = cursors_[i];
    const std::int64_t before = offset;
    for (; cursor.next != cursor.end && cursor.next->begin < offset + size; ++cursor.next)
      if (cursor.next->end > offset) offset = (cursor.next->end + alignment - 1) / alignment * alignment;
    agreed = offset == before ? agreed + 1 : 1;
  }
  return offset;
}

void FirstFit::take(std::uint32_t buffer, std::int64_t offset) {
  const AddressSet::Span span{offset, offset + instance_[buffer].size};
  visit(
      buffer,
      [&](std::uint32_t node) {
        cover_[node].add(span, least_);
        touch_[node].add(span, least_);
      },
      [&](std::uint32_t node) { touch_[node].add(span, least_); });
}

FirstFit::Result FirstFit::place(const std::vector<std::uint32_t>& order, std::int64_t ceiling,
                                 const std::function<bool()>& interrupted, std::vector<std::int64_t>& offsets) {
  for (AddressSet& set : cover_) set.clear();
  for (AddressSet& set : touch_) set.clear();
  offsets.assign(instance_.size(), 0);
  for (std::uint32_t i = 0; i < instance_.size(); ++i)
    if (instance_[i].fixed) take(i, offsets[i] = *instance_[i].fixed);
  for (std::size_t position = 0; position < order.size(); ++position) {
    if (position % 64 == 0 && interrupted()) return {End::interrupted, position};
    const std::uint32_t buffer = order[position];
    offsets[buffer] = lowest_free(buffer);
    if (offsets[buffer] > ceiling - instance_[buffer].size) return {End::over_ceiling, position};
    take(buffer, offsets[buffer]);
  }
  return {};
}

std::vector<std::int64_t> FirstFit::peak_loads() const {
  std::vector<std::int64_t> load(2 * static_cast<std::size_t>(leaves_),
                                 0);                    // leaves: sections; above: the larger child
  for (std::size_t i = 0; i < instance_.size(); ++i) {  // differences first: + at the first section, - after the last
    for (const Range& range : sections_.of(i)) {
      load[leaves_ + range.first] += instance_[i].size;
      if (range.last < leaves_) load[leaves_ + range.last] -= instance_[i].size;
    }
  }
  for (std::size_t leaf = leaves_ + 1; leaf < load.size(); ++leaf) load[leaf] += load[leaf - 1];
  for (std::size_t node = leaves_; node-- > 1;) load[node] = std::max(load[2 * node], load[2 * node + 1]);
  std::vector<std::int64_t> peaks(instance_.size(), 0);
  for (std::uint32_t i = 0; i < instance_.size(); ++i)
    visit(
        i, [&](std::uint32_t node) { peaks[i] = std::max(peaks[i], load[node]); }, [](std::uint32_t) {});
  return peaks;
}

}  // namespace memo::pack
