// Many short searches instead of a long one, because run times are heavy-tailed and chaotic in the capacity. Lengths of
// depth-first searches and widths of beams follow Luby's sequence (Luby, Sinclair and Zuckerman, Optimal Speedup of Las
// Vegas Algorithms, 1993). Parts of the instance that share no time are searched separately.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "memo/pack/skyline.h"

namespace memo::pack {

class Restarts {
 public:
  // Each of `threads` threads searches by itself; the choice among their answers depends only on their number and the
  // seed.
  Restarts(const Instance& instance, std::uint64_t seed, int threads);
  ~Restarts();
  Restarts(const Restarts&) = delete;
  Restarts& operator=(const Restarts&) = delete;

  // depth_first: exact, in MiniMalloc's orders of the buffers with a little noise; packs or refutes at once where that
  // is easy. beam: packs where hardly a byte may be lost; its weights and its patience are drawn at random.
  enum Kind : std::uint8_t { depth_first, beam };

  // Runs one more search on each thread for a packing with at most `peak`, in a part that has none yet. Packed when all
  // parts have one, refuted when some part can have none, else cut off.
  Verdict run(std::int64_t peak, Kind kind, const std::function<bool()>& interrupted);
  // Number of placements tried by all searches of a kind.
  [[nodiscard]] std::int64_t nodes(Kind kind) const { return nodes_[kind]; }
  // Call after Verdict::packed.
  [[nodiscard]] std::vector<std::int64_t> offsets() const;

 private:
  struct Part;
  const std::size_t buffers_;
  const std::uint64_t seed_;
  const int threads_;
  std::int64_t grain_;
  std::array<std::int64_t, 2> nodes_{};
  std::vector<std::unique_ptr<Part>> parts_;
};

}  // namespace memo::pack
