// One way to train one model on one cluster: all that an estimate depends on.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memo/estimate/hardware.h"
#include "memo/model/shape.h"

namespace memo::estimate {

// What is split over how many GPUs. Their product is the number of GPUs.
struct Degrees {
  int tensor = 1;  // Megatron's: heads and ffn columns; norms and residuals by token when `sequence`
  bool sequence = true;
  int ring = 1;      // context parallel: the sequence is split, keys and values go round
  int ulysses = 1;   // the sequence is split, heads are while attention runs (all-to-all)
  int pipeline = 1;  // layers
  int stages = 1;    // virtual ones of each GPU in the pipeline
  int data = 1;
  [[nodiscard]] int gpus() const { return tensor * ring * ulysses * pipeline * data; }
  [[nodiscard]] int sequence_parts() const { return ring * ulysses; }
};

// What data parallel ranks (and those that split the sequence) share out, by ZeRO's stages 0 to 3. FSDP is `weights`.
enum class Shard { none, optimizer, gradients, weights };
// selective: attention's output and every other matrix product are kept (PyTorch's selective checkpointing by
// operator).
enum class Recompute { none, selective, full };
// How a layer runs. blocks: as Memo's executor does, by token blocks with fused backward. fused: the whole sequence
// through fused modules (Megatron with Transformer Engine, torch.compile). eager: operator by operator; an RMS norm is
// then several in float32 (Transformers), a layer norm is one anyway.
enum class Execution { blocks, fused, eager };
// Bytes of a parameter. mixed: 2 + 4 + 12 (bfloat16 weights, float32 gradients, masters and moments); master: 4 + 4 +
// 8, cast when gathered (FSDP); pure: 2 + 2 + 4; zero: 2 + 2 + 12 (DeepSpeed).
enum class State { mixed, master, pure, zero };

struct Setup {
  std::string model_name;
  model::Shape shape;
  Hardware hardware;
  int gpus = 1;
  Tokens context;
  int sequences = 1;      // that go through one forward of a rank together
  int micro_batches = 1;  // of a step, for each data parallel rank
  Degrees degrees;
  std::string system = "memo";  // whose strategy this is (strategies.h)
  Shard shard = Shard::weights;
  Recompute recompute = Recompute::full;
  Execution execution = Execution::blocks;
  State state = State::mixed;
  bool offload_inputs = false;     // layer inputs to host memory
  bool offload_all = false;        // any saved tensor may go there: as Memo plans it, or MEMO's alpha (`fused`)
  bool offload_optimizer = false;  // it is updated there, by the host
  bool offload_weights = false;
  bool tiled_loss = false, tiled_mlp = false;
  // Of a logit at the loss's peak, where logits exist whole. Eager: bfloat16, its float32 copy, log-softmax, gradient.
  double logit_bytes = 2 + 4 + 4 + 4;
  int element_bytes = 2;      // of weights in use and of tensors that are saved
  bool fp8 = false;           // matrix products
  std::string attention;      // kernel; empty: the usual one
  bool whole_square = false;  // attention computes what its causal mask then hides
  Tokens block{4096};         // of Memo's executor, on one GPU; of MEMO, the grain of alpha
  [[nodiscard]] std::int64_t global_batch() const { return std::int64_t{1} * sequences * micro_batches * degrees.data; }
  // Tokens of one forward on one GPU, as token-wise work sees them (before a tensor parallel rank takes its share).
  [[nodiscard]] Tokens local_tokens() const {
    return context * std::int64_t{sequences} / std::int64_t{degrees.sequence_parts()};
  }
  // MEMO as published: whole layers, of whose tensors some tokens' are swapped.
  [[nodiscard]] bool by_alpha() const { return offload_all && execution != Execution::blocks; }
  // GPUs that share out a replica's parameters under `shard`.
  [[nodiscard]] int shards() const { return degrees.data * degrees.sequence_parts(); }
};

// Memo's token block for an estimate: enough blocks to tell placements apart, few enough to plan at once.
Tokens usual_block(Tokens local);
// Degrees that contradict the model or the number of GPUs, by the rule they break.
Status check_setup(const Setup& setup);

}  // namespace memo::estimate
