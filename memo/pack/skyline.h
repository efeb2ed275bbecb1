// Exact search for hundreds of buffers: does an instance fit a capacity?
//
// Buffers are placed from the bottom up on a skyline. Every packing can be justified: each buffer rests on the ground
// or on another. The floor of a section is the least offset that any of its waiting buffers may still have. Take the
// section with the lowest floor: in it, some buffer lies exactly on the floor (a branch each), or none does, and the
// floor rises to the least top on which one could rest (the last branch). Below the floor nothing is ever decided
// again, so a state is no more than the least offsets of the waiting buffers.
//
// A state fails when a floor and what waits above it exceed the capacity (the section inference of Moffitt, MiniMalloc,
// ASPLOS 2023), when a buffer left up could slide down, or when the same state failed before. Where no waiting buffer
// lives on both sides of a time, the two sides are searched apart.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "memo/pack/sections.h"

namespace memo::pack {

class Skyline {
 public:
  explicit Skyline(const Instance& instance);

  enum class Verdict { packed, refuted, cut_off };
  // Of equal choices the buffer with the larger `priority` goes first. Gives up after `nodes`, or when `interrupted`.
  // States that failed are remembered from one call to the next. A state is known by 64 bits of a hash: that two of
  // 10^9 states are ever mistaken for each other has odds below 10^-4.
  Verdict search(std::int64_t capacity, const std::vector<float>& priority, std::int64_t nodes,
                 const std::function<bool()>& interrupted);
  // Of the last search that packed.
  [[nodiscard]] const std::vector<std::int64_t>& offsets() const { return offsets_; }

  // The pairs of buffers alive together, counted up to `most`: the memory and time that a search takes grow with it.
  static std::size_t neighbours(const Instance& instance, std::size_t most);

 private:
  using Index = std::uint32_t;
  struct Undo {
    enum Kind : std::uint8_t { least, floor, placed } kind;
    Index index, lowest;
    std::int64_t value;
  };
  struct Spot {                           // what the search asks of a buffer most
    std::int64_t size, alignment, fixed;  // fixed: -1 for none
    std::uint64_t code;                   // of the buffer and its least offset, for the state's hash
  };

  Verdict solve(Range part, std::size_t depth);
  Verdict solve_parts(Range part, std::size_t depth);
  bool none_at(Index section, std::int64_t height);
  bool place(Index buffer);
  bool raise(Index buffer, std::int64_t least);
  bool settle(Index section, std::int64_t at_least);
  void undo(std::size_t mark);
  [[nodiscard]] std::uint64_t key(Range part) const;
  void candidates(Index section, std::int64_t height, std::vector<Index>& found) const;
  [[nodiscard]] bool splits(Index placed) const;
  void rehash(Index buffer);

  Sections sections_;
  std::vector<Spot> spots_;
  std::vector<std::vector<Index>> buffers_;     // of each section, short lives first: theirs are often the lowest
  std::vector<std::vector<Index>> neighbours_;  // of each buffer: those alive at some time of its life
  std::vector<Index> twin_;                     // the first buffer with the same life, size and alignment

  std::int64_t capacity_ = 0;
  const std::vector<float>* priority_ = nullptr;
  const std::function<bool()>* interrupted_ = nullptr;
  std::int64_t nodes_left_ = 0;

  std::vector<std::int64_t> offsets_, least_;  // of each buffer; least_: what its offset may be at least, or placed
  std::vector<std::int64_t> floor_, waiting_;  // of each section; waiting_: bytes not placed
  std::vector<Index> lowest_;                  // of each section: a waiting buffer whose least offset is the floor
  std::vector<std::int64_t> crossing_;         // waiting buffers alive on both sides of the section's end
  std::vector<Undo> trail_;
  std::vector<std::uint64_t> failed_;        // keys of states, by their low bits
  std::uint64_t hash_ = 0;                   // of the waiting buffers of the part in work
  std::vector<std::vector<Index>> choices_;  // by depth
  std::vector<Index> stamp_;                 // of each buffer: the last none_at that left it up
  Index stamps_ = 0;
};

}  // namespace memo::pack
