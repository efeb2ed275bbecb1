// Search from the fullest time outward, for instances whose sizes are multiples of a coarse grain.
//
// Where the capacity is the bound, some sections have no room to waste: what is alive there lies without holes, and all
// else has to go around it. So sections are filled one after the other, those with the least room to spare first and
// each from the bottom up: at its lowest free address one of its waiting buffers (a branch each), or a hole up to the
// next address where one of them can lie. Sections in which the search fails weigh more in the next one, as in dom/wdeg
// (Boussemart, Hemery, Lecoutre and Sais, Boosting systematic search by weighting constraints, ECAI 2004).
//
// It packs or gives up; it refutes nothing, since a hole may also end where no buffer of its section can lie yet.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "memo/pack/sections.h"

namespace memo::pack {

class Tight {
 public:
  explicit Tight(const Instance& instance);

  // Whether addresses below `capacity` are few enough to be bits.
  static bool suits(const Instance& instance, std::int64_t capacity);

  // Of equal choices the buffer with the larger `priority` goes first. Gives up after `nodes`, or when `interrupted`.
  bool search(std::int64_t capacity, const std::vector<float>& priority, std::int64_t nodes,
              const std::function<bool()>& interrupted);
  // Of the last search that packed.
  [[nodiscard]] const std::vector<std::int64_t>& offsets() const { return offsets_; }

 private:
  using Index = std::uint32_t;
  struct Saved {  // a word of what blocks a buffer, before it changed
    Index buffer, word;
    std::uint64_t bits;
  };
  enum class End { packed, failed, cut_off };

  bool start(std::int64_t capacity);
  End fill();
  bool place(Index buffer, std::int64_t at);
  void remove(Index buffer, std::int64_t at, std::size_t mark);
  [[nodiscard]] Index next_section() const;
  [[nodiscard]] std::int64_t next_fit(Index buffer, std::int64_t from) const;
  [[nodiscard]] const std::uint64_t* blocked(Index buffer) const { return &blocked_[buffer * words_]; }

  const Instance& instance_;
  Sections sections_;
  std::int64_t grain_, units_ = 0;                // of the capacity
  std::size_t words_ = 0;                         // of 64 addresses
  std::vector<std::vector<Index>> buffers_;       // of each section
  std::vector<std::vector<Index>> neighbours_;    // of each buffer
  std::vector<Index> twin_;                       // the first buffer with the same life, size and alignment
  std::vector<std::int64_t> load_, size_, step_;  // units: of each section; of each buffer, and of its alignment
  std::vector<double> weight_;                    // of each section

  const std::vector<float>* priority_ = nullptr;
  const std::function<bool()>* interrupted_ = nullptr;
  std::int64_t nodes_left_ = 0;
  std::vector<char> placed_;
  std::vector<Index> waiting_;           // of each section: buffers not placed
  std::vector<std::int64_t> spare_;      // of each section: units that may be wasted
  std::vector<std::int64_t> cursor_;     // of each section: below, all is decided
  std::vector<std::uint64_t> blocked_;   // of each buffer: addresses that placed neighbours take
  std::vector<std::uint64_t> occupied_;  // of each section
  std::vector<Saved> trail_;
  std::vector<std::int64_t> offsets_;
};

}  // namespace memo::pack
