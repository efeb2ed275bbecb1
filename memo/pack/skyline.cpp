// Floors, least offsets and slack of a partial packing, kept up to date and undone step by step.
#include "memo/pack/skyline.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

namespace memo::pack {
namespace {

constexpr std::int64_t no_floor = std::numeric_limits<std::int64_t>::max();  // of a section where nothing waits
constexpr std::int64_t placed = no_floor;                                    // as a least offset

std::uint64_t mixed(std::uint64_t x) {  // the finaliser of MurmurHash3
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

std::int64_t aligned(std::int64_t offset, std::int64_t alignment) {
  const std::int64_t rest = offset % alignment;
  return rest == 0 ? offset : offset + (alignment - rest);
}

}  // namespace

Skyline::Skyline(const Instance& instance)
    : sections_(instance),
      buffers_(sections_.count),
      neighbours_(instance.size()),
      twin_(instance.size()),
      offsets_(instance.size(), 0),
      least_(instance.size(), 0),
      floor_(sections_.count, no_floor),
      waiting_(sections_.count, 0),
      lowest_(sections_.count, nobody),
      crossing_(sections_.count, 0),
      stamp_(instance.size(), 0) {
  std::vector<Index> by_length(instance.size());
  std::iota(by_length.begin(), by_length.end(), 0U);
  const auto length = [&](Index i) { return sections_.hull(i).last - sections_.hull(i).first; };
  std::stable_sort(by_length.begin(), by_length.end(), [&](Index a, Index b) { return length(a) < length(b); });
  for (const Index i : by_length) {
    for (const Range& range : sections_.of(i))
      for (Index s = range.first; s < range.last; ++s) {
        buffers_[s].push_back(i);
        waiting_[s] += instance[i].size;
      }
    const Range hull = sections_.hull(i);
    for (Index s = hull.first; s + 1 < hull.last; ++s) ++crossing_[s];
    if (instance[i].fixed) least_[i] = *instance[i].fixed;
  }
  spots_.reserve(instance.size());
  for (Index i = 0; i < instance.size(); ++i) {
    const Buffer& b = instance[i];
    spots_.push_back({b.size, b.alignment, b.fixed.value_or(-1), 0});
    rehash(i);
    areas_.push_back(0);
    for (const Range& range : sections_.of(i))
      areas_[i] += static_cast<double>(b.size) * static_cast<double>(range.last - range.first);
  }
  std::vector<Index> seen(instance.size(), nobody);
  std::map<std::tuple<std::int64_t, std::int64_t, std::vector<Index>>, Index> twins;
  for (Index i = 0; i < instance.size(); ++i) {
    std::vector<Index> life;
    for (const Range& range : sections_.of(i)) {
      life.insert(life.end(), {range.first, range.last});
      for (Index s = range.first; s < range.last; ++s)
        for (const Index other : buffers_[s])
          if (other != i && std::exchange(seen[other], i) != i) neighbours_[i].push_back(other);
    }
    twin_[i] = instance[i].fixed
                   ? i
                   : twins.emplace(std::tuple(instance[i].size, instance[i].alignment, life), i).first->second;
  }
  for (Index s = 0; s < sections_.count; ++s)
    for (const Index i : buffers_[s])
      if (least_[i] < floor_[s]) floor_[s] = least_[lowest_[s] = i];
  enter(all());
  first_ = snapshot();
}

bool Skyline::start(std::int64_t capacity) {
  restore(first_);
  capacity_ = capacity;
  for (Index s = 0; s < sections_.count; ++s)
    if (waits(s) && slack(s) < 0) return false;
  for (std::size_t i = 0; i < spots_.size(); ++i)
    if (least_[i] > capacity - spots_[i].size) return false;
  return true;
}

Skyline::Snapshot Skyline::snapshot() const {
  Snapshot result{std::vector<std::int64_t>(least_.size() + 3 * floor_.size()), hash_};
  std::int64_t* value = result.values.data();
  for (std::size_t i = 0; i < least_.size(); ++i)  // a placed buffer's offset is stored as a negative number
    *value++ = least_[i] == placed ? -1 - offsets_[i] : least_[i];
  value = std::copy(floor_.begin(), floor_.end(), value);
  value = std::copy(waiting_.begin(), waiting_.end(), value);
  std::copy(lowest_.begin(), lowest_.end(), value);
  return result;
}

void Skyline::restore(const Snapshot& snapshot) {
  undo(0);
  hash_ = snapshot.hash;
  const std::int64_t* value = snapshot.values.data();
  for (std::size_t i = 0; i < least_.size(); ++i, ++value) {
    least_[i] = *value < 0 ? placed : *value;
    if (*value < 0) offsets_[i] = -1 - *value;
    rehash(i);
  }
  for (std::int64_t& floor : floor_) floor = *value++;
  for (std::int64_t& waiting : waiting_) waiting = *value++;
  for (Index& lowest : lowest_) lowest = static_cast<Index>(*value++);
}

void Skyline::rehash(Index buffer) {
  spots_[buffer].code = mixed((buffer + 1ULL) * 0x9e3779b97f4a7c15ULL ^ static_cast<std::uint64_t>(least_[buffer]));
}

// The key of a part's state: its waiting buffers, their least offsets, and the capacity. Never 0.
std::uint64_t Skyline::key(Range part) const {
  const std::uint64_t frame =
      mixed((std::uint64_t{part.first} << 32 | part.last) + mixed(static_cast<std::uint64_t>(capacity_)));
  return mixed(hash_ ^ frame) | 1;
}

void Skyline::undo(std::size_t mark) {
  for (; trail_.size() > mark; trail_.pop_back()) {
    const Undo& u = trail_.back();
    if (u.kind == Undo::least) {
      hash_ ^= spots_[u.index].code;
      least_[u.index] = u.value;
      rehash(u.index);
      hash_ ^= spots_[u.index].code;
    } else if (u.kind == Undo::floor) {
      floor_[u.index] = u.value;
      lowest_[u.index] = u.lowest;
    } else {
      least_[u.index] = u.value;
      hash_ ^= spots_[u.index].code;
      for (const Range& range : sections_.of(u.index))
        for (Index s = range.first; s < range.last; ++s) waiting_[s] += spots_[u.index].size;
      const Range hull = sections_.hull(u.index);
      for (Index s = hull.first; s + 1 < hull.last; ++s) ++crossing_[s];
    }
  }
}

bool Skyline::raise(Index buffer, std::int64_t least) {
  Spot& b = spots_[buffer];
  if (b.alignment > 1) least = aligned(least, b.alignment);
  trail_.push_back({Undo::least, buffer, 0, least_[buffer]});
  hash_ ^= b.code;
  least_[buffer] = least;
  rehash(buffer);
  hash_ ^= b.code;
  return least <= (b.fixed >= 0 ? b.fixed : capacity_ - b.size);
}

// Computes the section's floor again. It cannot be below `at_least`. False when the waiting buffers no longer fit above
// it.
bool Skyline::settle(Index section, std::int64_t at_least) {
  std::int64_t floor = no_floor;
  Index lowest = nobody;
  for (const Index i : buffers_[section])
    if (least_[i] < floor) {
      floor = least_[lowest = i];
      if (floor <= at_least) break;
    }
  trail_.push_back({Undo::floor, section, lowest_[section], floor_[section]});
  floor_[section] = floor;
  lowest_[section] = lowest;
  return lowest == nobody || floor <= capacity_ - waiting_[section];
}

bool Skyline::place(Index buffer) {
  const std::int64_t size = spots_[buffer].size, top = least_[buffer] + size;
  offsets_[buffer] = least_[buffer];
  trail_.push_back({Undo::placed, buffer, 0, least_[buffer]});
  hash_ ^= spots_[buffer].code;
  least_[buffer] = placed;
  const Range hull = sections_.hull(buffer);
  for (Index s = hull.first; s + 1 < hull.last; ++s) --crossing_[s];
  for (const Range& range : sections_.of(buffer))
    for (Index s = range.first; s < range.last; ++s) waiting_[s] -= size;

  Range raised = hull;  // sections with a buffer that was raised
  for (const Index other : neighbours_[buffer]) {
    if (least_[other] >= top) continue;
    if (!raise(other, top)) return false;
    const Range reach = sections_.hull(other);
    raised = {std::min(raised.first, reach.first), std::max(raised.last, reach.last)};
  }
  for (const Range& range : sections_.of(buffer))
    for (Index s = range.first; s < range.last; ++s)
      if (!settle(s, top)) return false;
  for (Index s = raised.first; s < raised.last; ++s)
    if (lowest_[s] != nobody && least_[lowest_[s]] != floor_[s] && !settle(s, floor_[s])) return false;
  return true;
}

bool Skyline::none_on_floor(Index section) {
  const std::int64_t height = floor_[section];
  ++stamps_;
  std::vector<Index> left;
  for (const Index i : buffers_[section]) {
    if (least_[i] != height) continue;
    if (spots_[i].fixed >= 0) return false;
    left.push_back(i);
    stamp_[i] = stamps_;
  }
  std::vector<std::int64_t> rests;
  for (const Index i : left) {
    std::int64_t rest = no_floor;
    bool held_up = false;
    for (const Index other : neighbours_[i]) {
      if (least_[other] == placed) continue;
      const std::int64_t bottom = least_[other] + (stamp_[other] == stamps_ ? 1 : 0);
      rest = std::min(rest, std::max(bottom + spots_[other].size, height + 1));
      held_up = held_up || bottom < height + spots_[i].size;
    }
    if (!held_up) return false;
    rests.push_back(rest);
  }
  for (std::size_t k = 0; k < left.size(); ++k)
    if (!raise(left[k], rests[k])) return false;
  for (const Index i : left)
    for (const Range& range : sections_.of(i))
      for (Index s = range.first; s < range.last; ++s)
        if (lowest_[s] == i && least_[i] != floor_[s] && !settle(s, height)) return false;
  return true;
}

void Skyline::candidates(Index section, std::vector<Index>& found) const {
  found.clear();
  for (const Index i : buffers_[section])
    if (least_[i] == floor_[section] &&
        std::none_of(found.begin(), found.end(), [&](Index other) { return twin_[other] == twin_[i]; }))
      found.push_back(i);
}

Skyline::Index Skyline::lowest_section(Range part) const {
  const std::int64_t height = *std::min_element(floor_.begin() + part.first, floor_.begin() + part.last);
  if (height == no_floor) return nobody;
  Index section = nobody;
  for (Index s = part.first; s < part.last; ++s)
    if (floor_[s] == height && (section == nobody || waiting_[s] > waiting_[section])) section = s;
  return section;
}

bool Skyline::splits(Index placed) const {
  const Range hull = sections_.hull(placed);
  for (Index s = hull.first; s + 1 < hull.last; ++s)
    if (crossing_[s] == 0) return true;
  return false;
}

std::vector<Range> Skyline::parts(Range part) const {
  struct Piece {
    std::int64_t slack;
    Range range;
  };
  std::vector<Piece> pieces;
  for (Index first = part.first, s = first; s < part.last; ++s) {
    if (s + 1 < part.last && crossing_[s] != 0) continue;
    Piece piece{no_floor, {first, s + 1}};
    for (Index t = first; t <= s; ++t)
      if (waits(t)) piece.slack = std::min(piece.slack, slack(t));
    if (piece.slack != no_floor) pieces.push_back(piece);
    first = s + 1;
  }
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.slack < b.slack; });
  std::vector<Range> ranges;
  ranges.reserve(pieces.size());
  for (const Piece& piece : pieces) ranges.push_back(piece.range);
  return ranges;
}

std::uint64_t Skyline::enter(Range part) {
  const std::uint64_t whole = std::exchange(hash_, 0);
  for (Index s = part.first; s < part.last; ++s)
    for (const Index i : buffers_[s])
      if (least_[i] != placed && sections_.hull(i).first == s) hash_ ^= spots_[i].code;
  return whole;
}

}  // namespace memo::pack
