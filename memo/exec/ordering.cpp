// Vector clocks of the streams, and the last accesses to each cell of memory.
#include "memo/exec/ordering.h"

#include <algorithm>
#include <iterator>

namespace memo::exec {
namespace {

std::size_t index(Stream stream) { return static_cast<std::size_t>(stream); }

}  // namespace

void Ordering::join(Stream stream, const Clock& event) {
  Clock& clock = clocks_[index(stream)];
  for (std::size_t s = 0; s < streams; ++s) clock[s] = std::max(clock[s], event[s]);
}

Clock Ordering::event(Stream stream) {
  Clock& clock = clocks_[index(stream)];
  const Clock taken = clock;
  ++clock[index(stream)];
  return taken;
}

void Ordering::all_ended() {
  spaces_.clear();
  log_.clear();
}

// Splits the cell that contains `at`, so that a cell begins there.
void Ordering::split(Cells& cells, std::int64_t at) {
  auto above = cells.upper_bound(at);
  if (above == cells.begin()) return;
  const auto cell = std::prev(above);
  if (cell->first == at || cell->second.end <= at) return;
  Cell upper = cell->second;
  cell->second.end = at;
  cells.emplace_hint(above, at, upper);
}

std::optional<Race> Ordering::against(int earlier, const Access& access, const Range& where) {
  if (earlier < 0) return {};
  const Access& before = log_[static_cast<std::size_t>(earlier)];
  if (before.stream == access.stream) return {};
  ++conflicts_;
  if (clocks_[index(access.stream)][index(before.stream)] >= before.clock) return {};
  return Race{before, access, where};
}

std::optional<Race> Ordering::access(Stream stream, bool write, const Range& range, int what) {
  if (range.begin >= range.end) return {};
  ++accesses_;
  const int number = static_cast<int>(log_.size());
  log_.push_back({stream, write, clocks_[index(stream)][index(stream)], what});
  Cells& cells = spaces_[range.space];
  split(cells, range.begin);
  split(cells, range.end);

  std::optional<Race> race;
  const auto check = [&](int earlier, const Range& where) {
    if (auto found = against(earlier, log_.back(), where); found && !race) race = found;
  };
  std::int64_t covered = range.begin;  // end of the part that cells cover so far
  auto cell = cells.lower_bound(range.begin);
  while (cell != cells.end() && cell->first < range.end) {
    const Range where{range.space, cell->first, cell->second.end};
    check(cell->second.write, where);
    if (write) {
      for (const int read : cell->second.reads) check(read, where);
      cell = cells.erase(cell);
      continue;
    }
    if (covered < cell->first)
      cells.emplace_hint(cell, covered, Cell{cell->first})->second.reads[index(stream)] = number;
    covered = cell->second.end;
    cell->second.reads[index(stream)] = number;
    ++cell;
  }
  if (covered < range.end) {
    Cell& rest = cells.emplace_hint(cell, covered, Cell{range.end})->second;
    (write ? rest.write : rest.reads[index(stream)]) = number;
  }
  return race;
}

}  // namespace memo::exec
