// Beam search for a packing below a capacity (the beam search of strip packing, here on the states of `skyline`).
//
// States are compared with those in which as much is placed. The best of them go on: those that left the least empty,
// weighted by how little more may be left empty. It never refutes an instance on its way, but where hardly a byte may
// be lost it packs what depth-first search does not.
#pragma once

#include <cstdint>
#include <functional>

#include "memo/pack/skyline.h"

namespace memo::pack {

struct Beam {
  std::size_t width = 32;  // states of a level that go on
  int rises = 3;           // how often in a row a state may leave the lowest floor empty
  double ease = 16;        // bytes of slack at which a section starts to weigh
};

// Adds the buffers it tried to place to `nodes`. After Verdict::packed `skyline` has the offsets.
Verdict beam_search(Skyline& skyline, std::int64_t capacity, const Beam& beam, std::int64_t& nodes,
                    const std::function<bool()>& interrupted);

}  // namespace memo::pack
