// Random numbers of a block: what a layer draws (dropout) comes from a state that belongs to the block, so that what is
// computed again draws the same, in whatever order blocks run.
#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>

#include "memo/model/dataflow.h"

namespace memo::plugin {

// Of a part of a layer (0: up to its attention, 1: behind it), for a block of a step: any of them changed gives
// another.
std::uint64_t block_seed(std::uint64_t step_seed, model::LayerIndex layer, model::BlockIndex block, int part);

// While alive, the default generators of the CPU and of `device` draw from this seed; behind it, from where they were.
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
