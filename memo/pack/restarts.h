// Many short exact searches instead of a long one: run times of the skyline search are heavy-tailed, and chaotic in the
// capacity. Restarts go round a few orders of the buffers, with a little noise, and their lengths follow Luby's
// sequence (Luby, Sinclair and Zuckerman, Optimal Speedup of Las Vegas Algorithms, 1993). Parts of the instance that
// share no time are searched apart.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "memo/pack/skyline.h"

namespace memo::pack {

class Restarts {
 public:
  // Each of `threads` searches by itself; which of their answers is taken depends on their number and the seed alone.
  Restarts(const Instance& instance, std::uint64_t seed, int threads);
  ~Restarts();
  Restarts(const Restarts&) = delete;
  Restarts& operator=(const Restarts&) = delete;

  // Orders by which buffers go first. keys: long before large before loaded, loaded large long, loaded long large
  // (those of MiniMalloc), best where no section has room to spare. volume: by size times length
  // to the power of 1.5, 2 and 3, best above the bound.
  enum Family : std::uint8_t { keys, volume };

  // One more search per thread for a packing with at most `peak`, in a part that has none yet. Packed when all parts
  // have one, refuted when one of them has none, else cut off.
  Skyline::Verdict run(std::int64_t peak, Family family, const std::function<bool()>& interrupted);
  // After Verdict::packed.
  [[nodiscard]] std::vector<std::int64_t> offsets() const;

 private:
  struct Part;
  const std::size_t buffers_;
  const std::uint64_t seed_;
  const int threads_;
  std::vector<std::unique_ptr<Part>> parts_;
};

}  // namespace memo::pack
