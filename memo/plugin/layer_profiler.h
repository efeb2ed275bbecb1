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
#include "memo/plan/profile.h"
#include "memo/plugin/layer_calls.h"
#include "memo/plugin/layer_session.h"
#include "memo/torch/attention_time.h"
#include "memo/torch/device.h"

namespace memo::plugin {

struct LayerOptions {
  std::string model;  // in words
  model::LayerShape shape;
  edge::ComputeDtype dtype;  // of hidden states, and of attention's operands
  int groups = 1;            // head groups
  Tokens block;
  job::MemoryLimits memory;
  std::vector<std::int64_t> windows = {};  // of each layer's attention, 0: all keys; empty: all as layer 0's
};

struct LayerTrial {
  LayerOutputs outputs;
  LayerGradients gradients;
};

class LayerProfiler {
 public:
  // Runs layer 0 of `calls`, which must take as many blocks as hidden [n, h] has (whole ones), a few times, and
  // measures the tier. `parameters`: those of the layer that gradients are wanted for. `calls` and the device must
  // outlive it.
  static Result<LayerProfiler> open(LayerOptions options, at::Tensor hidden, std::vector<at::Tensor> parameters,
                                    LayerCalls& calls, edge::Device& device);

  // Runs layer 0 of `calls`, which may be another kind of layer than the profiled one, forward and backward by a plan
  // of its own: hidden and d_output [n, h] of whole blocks. Fails when it allocates otherwise than the profiled layer.
  Result<LayerTrial> try_layer(LayerCalls& calls, const at::Tensor& hidden, const at::Tensor& d_output,
                               const std::vector<at::Tensor>& parameters);

  // Of a context of whole blocks.
  Result<plan::Profile> profile(Tokens context);
  [[nodiscard]] const LayerOptions& options() const { return options_; }

 private:
  LayerProfiler(LayerOptions options, at::Tensor hidden, std::vector<at::Tensor> parameters, LayerCalls& calls,
                edge::Device& device);
  // One layer by a plan that keeps everything.
  Result<std::unique_ptr<LayerSession>> open_one(Tokens context, LayerCalls& calls);
  // The table and traces, without times, from the first block of `hidden`.
  Result<plan::Profile> record(int layers, Tokens context, const at::Tensor& hidden);
  Result<bool> allocates_alike();
  Status measure(Tokens context);
  // What attention works on in a layer, where they differ on average.
  [[nodiscard]] edge::Length mean_length(Tokens tokens) const;

  LayerOptions options_;     // its shape: whether it is loose was found out
  std::int64_t window_ = 0;  // of layer 0's attention
  at::Tensor hidden_;
  std::vector<at::Tensor> parameters_;
  LayerCalls* calls_;
  edge::Device* device_;
  std::vector<plan::Tier> tiers_;
  std::map<std::tuple<int, bool>, std::vector<double>> seconds_;  // of a block, by segment and side
  std::map<std::tuple<int, bool>, std::vector<std::pair<edge::Length, double>>> attention_;
};

}  // namespace memo::plugin
