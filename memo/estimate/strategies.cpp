// The presets of the systems: which parallelism, recomputation and offloading each one uses.
#include "memo/estimate/strategies.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "memo/base/text.h"
#include "memo/model/sum_order.h"

namespace memo::estimate {
namespace {

// Memo's executor: token blocks; weights, gradients and optimizer sharded over all ranks.
void by_blocks(Setup& setup) {
  setup.execution = Execution::blocks;
  setup.state = State::mixed;
  setup.shard = Shard::weights;
  setup.tiled_loss = true;
}

void memo(Setup& setup) {
  by_blocks(setup);
  setup.recompute = Recompute::none;  // the plan decides
  setup.offload_all = true;
}

void resident(Setup& setup) {
  by_blocks(setup);
  setup.recompute = Recompute::none;
}

void recompute(Setup& setup) {
  by_blocks(setup);
  setup.recompute = Recompute::full;
}

void offload(Setup& setup) {
  recompute(setup);
  setup.offload_inputs = true;
}

void megatron(Setup& setup, Recompute recompute) {
  setup.execution = Execution::fused;
  setup.state = State::mixed;
  setup.shard = Shard::optimizer;
  setup.logit_bytes = 2 + 4;  // the loss works in its float32 copy
  setup.recompute = recompute;
}

void megatron_full(Setup& setup) { megatron(setup, Recompute::full); }
void megatron_kept(Setup& setup) { megatron(setup, Recompute::none); }

void memo_alpha(Setup& setup) {
  megatron(setup, Recompute::none);
  setup.offload_all = true;
}

void deepspeed(Setup& setup) {
  setup.execution = Execution::eager;
  setup.state = State::zero;
  setup.shard = Shard::weights;
  setup.recompute = Recompute::full;
}

void alst(Setup& setup) {
  deepspeed(setup);
  setup.offload_inputs = setup.offload_optimizer = true;
  setup.tiled_loss = setup.tiled_mlp = true;
}

// Chunks of the sequence, with layer inputs on the host: modelled as Memo's blocks under the same placement.
void fpdt(Setup& setup) {
  offload(setup);
  setup.state = State::zero;
}

}  // namespace

const std::vector<Strategy>& strategies() {
  static const std::vector<Strategy> all{
      {"memo", "token blocks; saved tensors kept, on the host or computed again by the plan", memo, true, true, true},
      {"resident", "token blocks; everything kept", resident, true, true, true},
      {"recompute", "token blocks; layer inputs kept, the rest computed again", recompute, true, true, true, false,
       true},
      {"offload", "token blocks; layer inputs on the host, the rest computed again", offload, true, true, true, false,
       true},
      {"megatron", "tensor and context parallel, distributed optimizer, full recomputation", megatron_full, true, true,
       false, true},
      {"megatron-kept", "the same, nothing computed again", megatron_kept, true, true, false, true},
      {"memo-alpha", "MEMO as published: Megatron's, a fraction alpha of each layer on the host", memo_alpha, true,
       true},
      {"deepspeed", "Ulysses, ZeRO-3, full recomputation", deepspeed, false, false, true},
      {"fpdt", "Ulysses by chunks of the sequence, ZeRO-3, layer inputs on the host", fpdt, false, false, true},
      {"alst", "Ulysses, ZeRO-3, layer inputs and optimizer on the host, tiled MLP and loss", alst, false, false, true},
  };
  return all;
}

std::string attention_of_memo(const Setup& setup) {
  const model::Shape& shape = setup.shape;
  const bool one_order = setup.context.value() <= model::longest_in_order;
  const bool cudnn = !one_order && shape.sliding_window == 0 && shape.head_dim <= 128 && shape.head_dim % 8 == 0;
  const AttentionRate* best = nullptr;
  const auto seconds = [&](const AttentionRate& rate) {  // of one FLOP forward
    constexpr double backward_flops = 2.5;
    return (1 / rate.forward + backward_flops / rate.backward) *
           (1 + rate.half / static_cast<double>(setup.context.value()));
  };
  for (const AttentionRate& rate : setup.hardware.attention) {
    if (rate.kernel != "flash2" && !(rate.kernel == "cudnn" && cudnn)) continue;
    if (best == nullptr || seconds(rate) < seconds(*best)) best = &rate;
  }
  return best == nullptr ? "" : best->kernel;
}

std::vector<std::string> strategy_names() {
  std::vector<std::string> names;
  for (const Strategy& strategy : strategies()) names.push_back(strategy.name);
  return names;
}

Result<Strategy> find_strategy(const std::string& name) {
  const auto found = std::ranges::find(strategies(), name, &Strategy::name);
  if (found != strategies().end()) return *found;
  const std::vector<std::string> names = strategy_names();
  return bad_input(
      fmt::format("unknown strategy '{}'{}; known: {}", name, did_you_mean(name, names), fmt::join(names, ", ")));
}

}  // namespace memo::estimate
