#include "memo/pack/tight.h"

#include <algorithm>
#include <bit>
#include <map>
#include <tuple>
#include <utility>

namespace memo::pack {
namespace {

constexpr std::int64_t most_units = 4096;
constexpr std::uint32_t nobody = ~std::uint32_t{0};

// Bits [first, last) of word `w`.
std::uint64_t mask(std::int64_t first, std::int64_t last, std::int64_t w) {
  const std::int64_t from = std::max<std::int64_t>(first - 64 * w, 0), to = std::min<std::int64_t>(last - 64 * w, 64);
  return (to == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << to) - 1) & ~((std::uint64_t{1} << from) - 1);
}

// The first position at or after `from` whose bit is `set`; `end` if there is none before it.
std::int64_t find(const std::uint64_t* bits, bool set, std::int64_t from, std::int64_t end) {
  while (from < end) {
    const std::uint64_t word = (set ? bits[from / 64] : ~bits[from / 64]) >> (from % 64);
    if (word != 0) return std::min(end, from + std::countr_zero(word));
    from = (from / 64 + 1) * 64;
  }
  return end;
}

}  // namespace

bool Tight::suits(const Instance& instance, std::int64_t capacity) {
  return capacity / granule(instance) <= most_units;
}

Tight::Tight(const Instance& instance)
    : instance_(instance),
      sections_(instance),
      grain_(granule(instance)),
      buffers_(sections_.count),
      neighbours_(instance.size()),
      twin_(instance.size()),
      load_(sections_.count, 0),
      weight_(sections_.count, 1) {
  for (Index i = 0; i < instance.size(); ++i) {
    size_.push_back(instance[i].size / grain_);
    step_.push_back(std::max<std::int64_t>(1, instance[i].alignment / grain_));
    for (const Range& range : sections_.of(i))
      for (Index s = range.first; s < range.last; ++s) {
        buffers_[s].push_back(i);
        load_[s] += size_[i];
      }
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
    twin_[i] = instance[i].fixed ? i : twins.emplace(std::tuple(size_[i], step_[i], life), i).first->second;
  }
}

// Nothing placed but what is fixed.
bool Tight::start(std::int64_t capacity) {
  units_ = capacity / grain_;
  words_ = static_cast<std::size_t>(units_ / 64 + 1);
  placed_.assign(instance_.size(), 0);
  cursor_.assign(sections_.count, 0);
  blocked_.assign(instance_.size() * words_, 0);
  occupied_.assign(sections_.count * words_, 0);
  offsets_.assign(instance_.size(), 0);
  trail_.clear();
  waiting_.clear();
  spare_.clear();
  for (Index s = 0; s < sections_.count; ++s) {
    waiting_.push_back(static_cast<Index>(buffers_[s].size()));
    spare_.push_back(units_ - load_[s]);
    if (spare_.back() < 0) return false;
  }
  for (Index i = 0; i < instance_.size(); ++i)
    if (instance_[i].fixed &&
        (*instance_[i].fixed / grain_ + size_[i] > units_ || !place(i, *instance_[i].fixed / grain_)))
      return false;
  return true;
}

std::int64_t Tight::next_fit(Index buffer, std::int64_t from) const {
  const std::uint64_t* bits = blocked(buffer);
  const std::int64_t step = step_[buffer];
  for (;;) {
    from = find(bits, false, from, units_);
    from = (from + step - 1) / step * step;
    if (from + size_[buffer] > units_) return units_;
    const std::int64_t taken = find(bits, true, from, from + size_[buffer]);
    if (taken == from + size_[buffer]) return from;
    from = taken;
  }
}

// False when some neighbour no longer fits anywhere.
bool Tight::place(Index buffer, std::int64_t at) {
  const std::int64_t end = at + size_[buffer];
  const auto first = at / 64, last = (end - 1) / 64;
  placed_[buffer] = 1;
  offsets_[buffer] = at * grain_;
  for (const Range& range : sections_.of(buffer))
    for (Index s = range.first; s < range.last; ++s) {
      --waiting_[s];
      for (std::int64_t w = first; w <= last; ++w)
        occupied_[s * words_ + static_cast<std::size_t>(w)] |= mask(at, end, w);
    }
  bool fits = true;
  for (const Index other : neighbours_[buffer]) {
    if (placed_[other]) continue;
    bool changed = false;
    for (std::int64_t w = first; w <= last; ++w) {
      std::uint64_t& bits = blocked_[other * words_ + static_cast<std::size_t>(w)];
      const std::uint64_t with = bits | mask(at, end, w);
      if (with == bits) continue;
      trail_.push_back({other, static_cast<Index>(w), bits});
      bits = with;
      changed = true;
    }
    if (changed && next_fit(other, 0) == units_) {
      for (const Range& range : sections_.of(other))
        for (Index s = range.first; s < range.last; ++s) weight_[s] += 1.0 / (range.last - range.first);
      fits = false;
      break;
    }
  }
  return fits;
}

void Tight::remove(Index buffer, std::int64_t at, std::size_t mark) {
  const std::int64_t end = at + size_[buffer];
  for (; trail_.size() > mark; trail_.pop_back())
    blocked_[trail_.back().buffer * words_ + trail_.back().word] = trail_.back().bits;
  placed_[buffer] = 0;
  for (const Range& range : sections_.of(buffer))
    for (Index s = range.first; s < range.last; ++s) {
      ++waiting_[s];
      for (std::int64_t w = at / 64; w <= (end - 1) / 64; ++w)
        occupied_[s * words_ + static_cast<std::size_t>(w)] &= ~pack::mask(at, end, w);
    }
}

Tight::Index Tight::next_section() const {
  Index best = nobody;
  double least = 0;
  for (Index s = 0; s < sections_.count; ++s) {
    if (waiting_[s] == 0) continue;
    const double room = static_cast<double>(units_ - load_[s] + 1) / weight_[s];
    if (best == nobody || room < least) best = s, least = room;
  }
  return best;
}

Tight::End Tight::fill() {
  if (--nodes_left_ < 0 || (nodes_left_ % 64 == 0 && (*interrupted_)())) return End::cut_off;
  const Index section = next_section();
  if (section == nobody) return End::packed;
  std::vector<Index> choices;
  for (const Index i : buffers_[section])
    if (!placed_[i] &&
        std::none_of(choices.begin(), choices.end(), [&](Index other) { return twin_[other] == twin_[i]; }))
      choices.push_back(i);
  std::sort(choices.begin(), choices.end(), [&](Index a, Index b) {
    return (*priority_)[a] != (*priority_)[b] ? (*priority_)[a] > (*priority_)[b] : a < b;
  });
  const std::uint64_t* taken = &occupied_[section * words_];
  const std::int64_t cursor = cursor_[section], spare = spare_[section];
  End end = End::failed;
  std::int64_t at = find(taken, false, cursor, units_);
  while (end == End::failed) {
    std::int64_t next = units_;
    for (const Index i : choices) {
      const std::int64_t fit = next_fit(i, at);
      if (fit != at) {
        next = std::min(next, fit);
        continue;
      }
      next = std::min(next, next_fit(i, at + 1));
      const std::size_t mark = trail_.size();
      cursor_[section] = at + size_[i];
      if (place(i, at)) end = fill();
      if (end != End::failed) return end;
      remove(i, at, mark);
    }
    // A hole, up to the next address where one of them fits.
    if (next == units_) break;
    for (std::int64_t p = at; p < next;) {
      const std::int64_t stop = find(taken, true, p, next);
      spare_[section] -= stop - p;
      p = find(taken, false, stop, next);
    }
    if (spare_[section] < 0) break;
    at = next;
    if (--nodes_left_ < 0) end = End::cut_off;
  }
  if (end == End::failed) weight_[section] += 1;
  cursor_[section] = cursor;
  spare_[section] = spare;
  return end;
}

bool Tight::search(std::int64_t capacity, const std::vector<float>& priority, std::int64_t nodes,
                   const std::function<bool()>& interrupted) {
  priority_ = &priority;
  interrupted_ = &interrupted;
  nodes_left_ = nodes;
  return start(capacity) && fill() == End::packed;
}

}  // namespace memo::pack
