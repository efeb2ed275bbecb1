// What two searches for hundreds of buffers share: the state of a packing filled from the bottom up below a capacity.
//
// Every packing can be justified: each buffer rests on the ground or on another. The floor of a section is the least
// offset that any of its waiting buffers may still have. Take the section with the lowest floor: in it, some buffer
// lies exactly on the floor, or none does, and the floor rises to the least top on which one could rest. Below the
// floor nothing is ever decided again, so a state is no more than the least offsets of the waiting buffers.
//
// A state fails when a floor and what waits above it exceed the capacity (the section inference of Moffitt, MiniMalloc,
// ASPLOS 2023), or when a buffer left up could slide down.
#pragma once

#include <cstdint>
#include <vector>

#include "memo/pack/sections.h"

namespace memo::pack {

// Of a search: a packing is found, there is none, or it gave up.
enum class Verdict { packed, refuted, cut_off };

class Skyline {
 public:
  using Index = std::uint32_t;
  static constexpr Index nobody = ~Index{0};

  explicit Skyline(const Instance& instance);

  // Everything waits. False when something cannot fit below `capacity`.
  bool start(std::int64_t capacity);

  [[nodiscard]] Range all() const { return {0, sections_.count}; }
  // Of the sections of `part` with the lowest floor the one where most waits; nobody when nothing waits.
  [[nodiscard]] Index lowest_section(Range part) const;
  // The waiting buffers that may lie on the section's floor, one of each kind, short lives first.
  void candidates(Index section, std::vector<Index>& found) const;
  // At its least offset. False when the rest no longer fits.
  bool place(Index buffer);
  // No buffer of the section lies on its floor. Those that could are raised to the least top of a neighbour on which
  // they might rest instead. False when one of them could slide down after all, or something no longer fits.
  bool none_on_floor(Index section);
  // Takes back what was done since `trail()` was `mark`.
  void undo(std::size_t mark);
  [[nodiscard]] std::size_t trail() const { return trail_.size(); }

  [[nodiscard]] bool waits(Index section) const { return lowest_[section] != nobody; }
  // Bytes that may still be left empty above the floor of a section where something waits.
  [[nodiscard]] std::int64_t slack(Index section) const { return capacity_ - floor_[section] - waiting_[section]; }
  // Sum over the buffer's sections of its bytes.
  [[nodiscard]] double area(Index buffer) const { return areas_[buffer]; }

  // Whether what waits is no longer connected within the life of the buffer that was placed.
  [[nodiscard]] bool splits(Index placed) const;
  // The parts into which what waits in `part` falls, the tightest first.
  [[nodiscard]] std::vector<Range> parts(Range part) const;

  // Of the state of the part in work: what waits in it, and how low each may lie, under which capacity. Never 0. Known
  // by 64 bits: that two of 10^9 states are ever mistaken for each other has odds below 10^-4.
  [[nodiscard]] std::uint64_t key(Range part) const;
  // Takes a part to work; keys are of it alone. Returns what `leave` wants in the end.
  std::uint64_t enter(Range part);
  void leave(std::uint64_t whole) { hash_ = whole; }

  // A state by itself, to return to under the same capacity, with nothing left to undo.
  struct Snapshot {
    std::vector<std::int64_t> values;
    std::uint64_t hash = 0;
  };
  [[nodiscard]] Snapshot snapshot() const;
  void restore(const Snapshot& snapshot);

  // Of the buffers that are placed.
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
