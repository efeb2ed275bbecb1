// How the executor calls a plug-in's layers: it enters external code at a layer's input, leaves it at the layer's
// attention, and enters it there again.
#pragma once

#include <ATen/core/Tensor.h>

#include <exception>
#include <memory>
#include <vector>

#include "memo/libtorch/kernels/attention_mask.h"
#include "memo/model/dataflow.h"

namespace memo::plugin {

// T tokens of a block, h hidden, D head_dim. Calls are made on the thread that runs the step, and may throw.
struct AtAttention {
  at::Tensor q, k, v;  // q [heads, T, D], k and v [kv_heads, T, D]; attention scales scores by 1 / sqrt(D)
  float softcap = 0;   // cap of the scores; 0: none
  // Of the whole sequence, the same for all blocks; null: causal.
  std::shared_ptr<const libtorch::OwnMask> mask = nullptr;
};

struct AtOutput {
  at::Tensor y;                           // [T, h]
  std::vector<at::Tensor> extra_outputs;  // [T, any] each, besides y: router logits, which the model collects
};

class LayerCalls {
 public:
  virtual ~LayerCalls() = default;
  // Runs a layer on a block x [T, h] up to its attention, differentiable in x. The block waits there; x may be moved to
  // other memory until it goes on.
  virtual AtAttention before(model::LayerIndex layer, model::BlockIndex block, const at::Tensor& x) = 0;
  // Goes on from the block's attention output o [T, heads, D] to the layer's end, differentiable in o and x.
  virtual AtOutput after(model::LayerIndex layer, model::BlockIndex block, const at::Tensor& o) = 0;
  // The ranks that share the sequence, and their all-to-all: out[r] becomes in[own rank] of rank r, both [ranks, ...]
  // and contiguous. `end_exchange` waits for the oldest exchange that was begun; until then the exchange owns the
  // memory.
  [[nodiscard]] virtual int ranks() const { return 1; }
  virtual void begin_exchange(const at::Tensor& out, const at::Tensor& in) = 0;
  virtual void end_exchange() = 0;
  // Receives the exception that a call, or autograd inside of one, has thrown; the step fails with it.
  virtual void failed(std::exception_ptr) {}
  // Drops all blocks that wait, and ends exchanges.
  virtual void forget() = 0;
};

}  // namespace memo::plugin
