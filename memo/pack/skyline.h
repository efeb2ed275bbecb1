// The common part of two searches for hundreds of buffers: a packing that is filled from the bottom up below a
// capacity.
//
// Every packing can be justified, so that each buffer rests on the ground or on another. The floor of a section is the
// least offset that any of its waiting buffers may still have. Take the section with the lowest floor. Either some
// buffer lies exactly on the floor; or none does, and the floor rises to the least top on which one could rest. Below
// the floor nothing is decided any more, so a state consists only of the least offsets of the waiting buffers.
//
// A state fails when a floor and what waits above it exceed the capacity (the section inference of Moffitt, MiniMalloc,
// ASPLOS 2023), or when a buffer left up could slide down.
#pragma once

#include <cstdint>
#include <vector>

#include "memo/pack/sections.h"

namespace memo::pack {

// The result of a search: a packing is found, there is none, or the search gave up.
enum class Verdict { packed, refuted, cut_off };

class Skyline {
 public:
  using Index = std::uint32_t;
  static constexpr Index nobody = ~Index{0};

  explicit Skyline(const Instance& instance);

  // All buffers wait. False when something cannot fit below `capacity`.
  bool start(std::int64_t capacity);

  [[nodiscard]] Range all() const { return {0, sections_.count}; }
  // Of the sections of `part` with the lowest floor, the one where most bytes wait; none when nothing waits.
  [[nodiscard]] Index lowest_section(Range part) const;
  // The waiting buffers that may lie on the section's floor: one of each kind, short lives first.
  void candidates(Index section, std::vector<Index>& found) const;
  // Places the buffer at its least offset. False when the rest no longer fits.
  bool place(Index buffer);
  // Decides that no buffer of the section lies on its floor. Buffers that could are raised to the least top of a
  // neighbour on which they might rest instead. False when one of them could slide down after all, or something no
  // longer fits.
  bool none_on_floor(Index section);
  // Undoes everything since `trail()` was `mark`.
  void undo(std::size_t mark);
  [[nodiscard]] std::size_t trail() const { return trail_.size(); }

  [[nodiscard]] bool waits(Index section) const { return lowest_[section] != nobody; }
  // Bytes that may still be left empty above the floor of a section where something waits.
  [[nodiscard]] std::int64_t slack(Index section) const { return capacity_ - floor_[section] - waiting_[section]; }
  // The buffer's bytes, summed over its sections.
  [[nodiscard]] double area(Index buffer) const { return areas_[buffer]; }

  // Whether the waiting buffers are no longer connected within the life of the buffer that was placed.
  [[nodiscard]] bool splits(Index placed) const;
  // The parts into which the waiting buffers of `part` fall, tightest first.
  [[nodiscard]] std::vector<Range> parts(Range part) const;

  // Identifies the state of the current part: its waiting buffers, their least offsets, and the capacity. Never 0. The
  // key has 64 bits: the odds that two of 10^9 states ever share one are below 10^-4.
  [[nodiscard]] std::uint64_t key(Range part) const;
  // Makes `part` the current one, to which keys refer. Returns the argument for `leave`.
  std::uint64_t enter(Range part);
  void leave(std::uint64_t whole) { hash_ = whole; }

  // A copy of a state, to return to under the same capacity; it has nothing to undo.
  struct Snapshot {
    std::vector<std::int64_t> values;
    std::uint64_t hash = 0;
  };
  [[nodiscard]] Snapshot snapshot() const;
  void restore(const Snapshot& snapshot);

  // Offsets of the buffers that are placed.
  [[nodiscard]] const std::vector<std::int64_t>& offsets() const { return offsets_; }
  [[nodiscard]] std::size_t buffers() const { return spots_.size(); }

 private:
  struct Undo {
    enum Kind : std::uint8_t { least, floor, placed } kind;
    Index index, lowest;
    std::int64_t value;
  };
  struct Spot {                           // what the search asks of a buffer most
    std::int64_t size, alignment, fixed;  // fixed: -1 for none
    std::uint64_t code;                   // of the buffer and its least offset, for the state's hash
  };

  bool raise(Index buffer, std::int64_t least);
  bool settle(Index section, std::int64_t at_least);
  void rehash(Index buffer);

  Sections sections_;
  std::vector<Spot> spots_;
  std::vector<double> areas_;
  std::vector<std::vector<Index>> buffers_;     // of each section, short lives first: theirs are often the lowest
  std::vector<std::vector<Index>> neighbours_;  // of each buffer: those alive at some time of its life
  std::vector<Index> twin_;                     // the first buffer with the same life, size and alignment

  std::int64_t capacity_ = 0;
  std::vector<std::int64_t> offsets_, least_;  // of each buffer; least_: what its offset may be at least, or placed
  std::vector<std::int64_t> floor_, waiting_;  // of each section; waiting_: bytes not placed
  std::vector<Index> lowest_;                  // of each section: a waiting buffer whose least offset is the floor
  std::vector<std::int64_t> crossing_;         // waiting buffers alive on both sides of the section's end
  std::vector<Undo> trail_;
  std::uint64_t hash_ = 0;    // of the waiting buffers of the part in work
  std::vector<Index> stamp_;  // of each buffer: the last none_on_floor that left it up
  Index stamps_ = 0;
  Snapshot first_;
};

}  // namespace memo::pack
