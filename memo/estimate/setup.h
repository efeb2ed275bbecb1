// One way to train one model on one cluster: everything that an estimate depends on.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memo/estimate/hardware.h"
#include "memo/model/shape.h"

namespace memo::estimate {

// The number of GPUs over which each thing is split. Their product is the number of GPUs.
struct Degrees {
  int tensor = 1;  // Megatron's: splits heads and ffn columns; `sequence`: also norms and residuals by token
  bool sequence = true;
  int ring = 1;      // context parallel: splits the sequence; keys and values travel around the ring
  int ulysses = 1;   // splits the sequence, and heads during attention (all-to-all)
  int pipeline = 1;  // splits layers
  int stages = 1;    // virtual pipeline stages on each GPU
  int data = 1;
  [[nodiscard]] int gpus() const { return tensor * ring * ulysses * pipeline * data; }
  [[nodiscard]] int sequence_parts() const { return ring * ulysses; }
};

// State that data parallel ranks (and ranks that split the sequence) share, by ZeRO's stages 0 to 3. FSDP is `weights`.
enum class Shard { none, optimizer, gradients, weights };
// selective: keeps attention's output and every other matrix product (PyTorch's selective checkpointing by operator).
enum class Recompute { none, selective, full };
// How a layer runs. blocks: as in Memo's executor, by token blocks with fused backward. fused: the whole sequence
// through fused modules (Megatron with Transformer Engine, torch.compile). eager: operator by operator; an RMS norm is
// then several operators in float32 (Transformers), a layer norm is always one.
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
  int sequences = 1;      // sequences in one forward of a rank
  int micro_batches = 1;  // per step, for each data parallel rank
  Degrees degrees;
  std::string system = "memo";  // name of the strategy (strategies.h)
  Shard shard = Shard::weights;
  Recompute recompute = Recompute::full;
  Execution execution = Execution::blocks;
  State state = State::mixed;
  bool offload_inputs = false;     // moves layer inputs to host memory
  bool offload_all = false;        // lets any saved tensor leave: by Memo's plan, or with `fused` by MEMO's alpha
  bool offload_optimizer = false;  // the host updates
  bool offload_weights = false;
  bool host_updates = false;  // of Memo's executor: the plan may let the host update layers
  bool tiled_loss = false, tiled_mlp = false;
  // Bytes of a logit at the loss's peak, if logits exist whole. Eager: bfloat16, float32 copy, log-softmax, gradient.
  double logit_bytes = 2 + 4 + 4 + 4;
  int element_bytes = 2;      // of weights in use and of saved tensors
  bool fp8 = false;           // for matrix products
  std::string attention;      // name of a kernel; empty: the usual one
  bool whole_square = false;  // attention also computes the half that its causal mask hides
  Tokens block{4096};         // of Memo's executor, on one GPU; for MEMO, the grain of alpha
  // Of Memo's executor; 0: as the hardware's sizes say.
  int groups = 0;    // head groups
  Tokens loss_tile;  // rows of logits at a time
  [[nodiscard]] std::int64_t global_batch() const { return std::int64_t{1} * sequences * micro_batches * degrees.data; }
  // Tokens of one forward on one GPU for token-wise work (before tensor parallel ranks share it).
  [[nodiscard]] Tokens local_tokens() const {
    return context * std::int64_t{sequences} / std::int64_t{degrees.sequence_parts()};
  }
  // Memo's executor on one GPU: the state has the sizes of a run, and the plan's own calls update it.
  [[nodiscard]] bool as_run() const {
    const State of_memo = element_bytes == 4 ? State::master : State::mixed;
    return execution == Execution::blocks && gpus == 1 && state == of_memo && !offload_optimizer && !offload_weights;
  }
  // MEMO as published: runs whole layers, and swaps some tokens of their tensors.
  [[nodiscard]] bool by_alpha() const { return offload_all && execution != Execution::blocks; }
  // The number of GPUs that share a replica's parameters under `shard`.
  [[nodiscard]] int shards() const { return degrees.data * degrees.sequence_parts(); }
};

// Memo's token block for an estimate: enough blocks to tell placements apart, few enough to plan at once.
Tokens usual_block(Tokens local);
// An error if degrees contradict the model or the number of GPUs; it names the broken rule.
Status check_setup(const Setup& setup);

}  // namespace memo::estimate
