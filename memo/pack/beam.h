// Beam search for a packing below a capacity (the beam search of strip packing, here on the states of `skyline`).
//
// A state is compared with states in which the same area is placed, and the best of them go on: those that left the
// least empty, weighted by how little more may be left empty. Beam search never refutes an instance, but where hardly a
// byte may be lost it packs instances that depth-first search does not.
#pragma once

#include <cstdint>
#include <functional>

#include "memo/pack/skyline.h"

namespace memo::pack {

struct Beam {
  std::size_t width = 32;  // states of a level that are kept
  int rises = 3;           // how many times in a row a state may leave the lowest floor empty
  double ease = 16;        // bytes of slack below which a section gains weight
};

// Adds the number of buffers it tried to place to `nodes`. After Verdict::packed, `skyline` has the offsets.
Verdict beam_search(Skyline& skyline, std::int64_t capacity, const Beam& beam, std::int64_t& nodes,
                    const std::function<bool()>& interrupted);

}  // namespace memo::pack
