// The paper's formulation of packing as a mixed-integer program (MEMO, arXiv 2407.12117, section 4.2), solved by HiGHS:
// for comparison, and for instances of a few dozen buffers. It stops only at its time limit, not at Options::stop.
#pragma once

#include <cstdint>
#include <vector>

#include "memo/pack/pack.h"

namespace memo::pack {

struct MipAnswer {
  std::vector<std::int64_t> offsets;  // the best packing found; empty: none within `most`
  std::int64_t lower_bound = 0;       // proved; 0 where numbers are too large for the solver's tolerances
};

// Looks for a packing with a peak of at most `most`. `start`: offsets of a known packing, or empty.
MipAnswer pack_mip(const Instance& instance, std::int64_t most, const std::vector<std::int64_t>& start, double seconds,
                   std::uint64_t seed);

}  // namespace memo::pack
