// Profiles a plug-in's layers: what a layer allocates and saves, and how long it takes.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "memo/job/job.h"
#include "memo/libtorch/measure/attention_time.h"
#include "memo/libtorch/memory/device.h"
#include "memo/plan/profile.h"
#include "memo/plugin/layer_calls.h"
#include "memo/plugin/layer_session.h"

namespace memo::plugin {

struct LayerOptions {
  std::string model;  // in words
  model::LayerShape shape;
  libtorch::ComputeDtype dtype;  // of hidden states, and of attention's operands
  int groups = 1;                // head groups
  Tokens block;
  job::MemoryLimits memory;
  std::vector<std::int64_t> windows = {};  // of each layer's attention, 0: all keys; empty: all as the measured one's
};

// A layer of a kind: what it is given, hidden [n, h] of whole blocks, and its parameters that gradients are wanted for.
struct LayerExample {
  at::Tensor hidden;
  std::vector<at::Tensor> parameters;
};

struct LayerTrial {
  LayerOutputs outputs;
  LayerGradients gradients;
};

class LayerProfiler {
 public:
  // Runs layer k of `calls`, which is of kind k, with example k, a few times, and measures the tier. All examples have
  // as many tokens. `calls` and the device must outlive it.
  static Result<LayerProfiler> open(LayerOptions options, std::vector<LayerExample> examples, LayerCalls& calls,
                                    libtorch::Device& device);

  // Runs layer 0 of `calls`, which is of this kind, by a plan of its own: hidden and d_output [n, h]. Forward and
  // backward, or forward alone where d_output is undefined.
  Result<LayerTrial> try_layer(int kind, LayerCalls& calls, const at::Tensor& hidden, const at::Tensor& d_output,
                               const std::vector<at::Tensor>& parameters);

  // Of a context of whole blocks.
  Result<plan::Profile> profile(Tokens context);
  [[nodiscard]] const LayerOptions& options() const { return options_; }

 private:
  LayerProfiler(LayerOptions options, std::vector<LayerExample> examples, LayerCalls& calls, libtorch::Device& device);
  // Layers by a plan that keeps everything.
  Result<std::unique_ptr<LayerSession>> open(const model::LayerShape& shape, Tokens context,
                                             const LayerExample& example, LayerCalls& calls);
  [[nodiscard]] LayerExample recorded_example() const;
  [[nodiscard]] model::LayerShape kinds_alone() const;  // a layer of each kind
  Status find_data_dependent();
  Status measure(Tokens context);
  // What attention works on in a layer, where they differ on average.
  [[nodiscard]] libtorch::Length mean_length(Tokens tokens) const;

  LayerOptions options_;     // its shape: which kinds are data dependent was found out
  int measured_ = 0;         // the kind whose attention is measured: it sees most
  std::int64_t window_ = 0;  // of its attention
  std::vector<LayerExample> examples_;
  LayerCalls* calls_;
  libtorch::Device* device_;
  std::vector<plan::Tier> tiers_;
  std::map<std::tuple<model::SegmentIndex, bool>, std::vector<double>> seconds_;  // of a block, by segment and side
  std::map<std::tuple<model::SegmentIndex, bool>, std::vector<std::pair<libtorch::Length, double>>> attention_;
};

// What a layer allocates for a few tokens and what autograd keeps of it, as text, to tell layers of one kind from
// others.
struct LayerTraces {
  std::string before, after;  // attention
};
// Of layer 0 of `calls`, for hidden [T, h] as one block of so many tokens. `options`: its shape is of one layer.
Result<LayerTraces> trace_layer(const LayerOptions& options, const LayerExample& example, LayerCalls& calls,
                                libtorch::Device& device);

}  // namespace memo::plugin
