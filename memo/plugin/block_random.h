// Random numbers of a block. A layer's random draws (dropout) come from a generator state that belongs to the block, so
// that a block that is computed again draws the same numbers, in whatever order blocks run.
#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>

#include "memo/model/dataflow.h"

namespace memo::plugin {

// The seed for a part of a layer (0: up to its attention, 1: after it) and a block of a step. It differs as soon as one
// of the arguments differs.
std::uint64_t block_seed(std::uint64_t step_seed, model::LayerIndex layer, model::BlockIndex block, int part);

// While alive, the default generators of the CPU and of `device` draw from this seed; afterwards they continue from
// their earlier state.
class BlockRandom {
 public:
  BlockRandom(at::Device device, std::uint64_t seed);
  ~BlockRandom();
  BlockRandom(const BlockRandom&) = delete;
  BlockRandom& operator=(const BlockRandom&) = delete;

  // Whether anything was drawn.
  [[nodiscard]] bool drew() const;

 private:
  struct Before;
  std::unique_ptr<Before> before_;
};

}  // namespace memo::plugin
