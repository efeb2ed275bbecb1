// Which accesses to memory are ordered by events: vector clocks with one component for each stream (Mattern 1989), and
// for each range of bytes the last write and each stream's last read, as in FastTrack (doi 10.1145/1542476.1542490).
// Each stream runs in order, so work that comes after a stream's last access also comes after its earlier ones.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "memo/base/units.h"

namespace memo::exec {

enum class Stream { compute, out, in };
inline constexpr std::size_t streams = 3;

// For each stream, the amount of its work that comes before.
using Clock = std::array<std::int64_t, streams>;

struct Range {  // bytes [begin, end) of an address space: the arena or a tier
  int space = 0;
  std::int64_t begin = 0, end = 0;
};

struct Access {
  Stream stream = Stream::compute;
  bool write = false;
  std::int64_t clock = 0;  // the stream's clock
  int what = 0;            // the caller's number for it
};

struct Race {  // two accesses to `where`, one of them a write, that no event orders
  Access first, second;
  Range where;
};

class Ordering {
 public:
  // Orders later work of `stream` after the work before `event`.
  void join(Stream stream, const Clock& event);
  // Ends a piece of `stream`'s work, so that events taken so far do not cover later work. Returns the event of this
  // end.
  Clock event(Stream stream);

  // Records an access and returns the first race with an earlier one. Empty ranges are ignored.
  std::optional<Race> access(Stream stream, bool write, const Range& range, int what);
  // Tells that all streams have ended all their work.
  void all_ended();

  [[nodiscard]] std::int64_t accesses() const { return accesses_; }
  // Pairs of accesses of two streams, one writing, whether ordered or not.
  [[nodiscard]] std::int64_t conflicts() const { return conflicts_; }

 private:
  struct Cell {  // the last accesses to a range; -1: none
    std::int64_t end = 0;
    int write = -1;
    std::array<int, streams> reads{-1, -1, -1};
  };
  using Cells = std::map<std::int64_t, Cell>;  // by begin

  static void split(Cells& cells, std::int64_t at);
  std::optional<Race> against(int earlier, const Access& access, const Range& where);

  // No event yet covers the streams' current work.
  std::array<Clock, streams> clocks_{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  std::vector<Access> log_;  // since all work had ended
  std::map<int, Cells> spaces_;
  std::int64_t accesses_ = 0, conflicts_ = 0;
};

}  // namespace memo::exec
