// What a plug-in's layers are to the executor: code of someone else that is entered at a layer's input and left at its
// attention, and entered there again.
#pragma once

#include <ATen/core/Tensor.h>

#include <exception>
#include <memory>
#include <vector>

#include "memo/libtorch/kernels/attention_mask.h"

namespace memo::plugin {

// T tokens of a block, h hidden, D head_dim. Calls are made on the thread that runs the step, and may throw.
struct AtAttention {
  at::Tensor q, k, v;  // q [heads, T, D], k and v [kv_heads, T, D], scaled by 1 / sqrt(D) only when they meet
  float softcap = 0;   // of the scores; 0: none
  std::shared_ptr<const libtorch::OwnMask> mask = nullptr;  // of the whole sequence, of all blocks alike; none: causal
};

struct AtOutput {
  at::Tensor y;                           // [T, h]
  std::vector<at::Tensor> extra_outputs;  // [T, any] each: router logits, which the model collects
};

class LayerCalls {
 public:
  virtual ~LayerCalls() = default;
  // Runs a layer on a block x [T, h] up to its attention, differentiable in x. The block waits there; where the memory
  // of x lies may change until it goes on.
  virtual AtAttention before(int layer, int block, const at::Tensor& x) = 0;
  // Goes on with the block's attention output o [T, heads, D] to the layer's end, differentiable in o and x.
  virtual AtOutput after(int layer, int block, const at::Tensor& o) = 0;
  // Over how many ranks the sequence is split, and their all-to-all: out[r] becomes what rank r has in in[own rank],
  // both [ranks, ...], contiguous. `end_exchange` waits for the oldest that was begun; until then the memory is the
  // exchange's.
  [[nodiscard]] virtual int ranks() const { return 1; }
  virtual void begin_exchange(const at::Tensor& out, const at::Tensor& in) = 0;
  virtual void end_exchange() = 0;
  // Told what a call, or autograd inside of one, threw: the step fails with it.
  virtual void failed(std::exception_ptr) {}
  // Lets go of all blocks that wait, and ends exchanges.
  virtual void forget() = 0;
};

}  // namespace memo::plugin
