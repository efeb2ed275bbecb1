// Profiles a plug-in's layers: their allocations, saved tensors and times.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "memo/job/job.h"
#include "memo/libtorch/measure/attention_choice.h"
#include "memo/libtorch/memory/device.h"
#include "memo/plan/profile.h"
#include "memo/plugin/layer_calls.h"
#include "memo/plugin/layer_session.h"

namespace memo::plugin {

// Why a device has no attention for this, such as "heads of 100 values; it takes multiples of 8 up to 256"; empty: it
// has.
std::string attention_refusal(at::Device place, at::ScalarType dtype, float softcap, std::int64_t head_dim);
// Whether a plan for this context may be of a kernel that has no documents. `kernel`: as for LayerProfiler::profile.
bool one_document_matters(at::Device place, const std::string& kernel, Tokens context);

struct LayerOptions {
  std::string model;  // a description for people
  model::LayerShape shape;
  libtorch::ComputeDtype dtype;  // dtypes of hidden states and of attention's operands
  int groups = 1;                // head groups
  Tokens block;
  job::MemoryLimits memory;
  std::string kernel = "";  // of attention, for trials and layers whose sequence is split; empty: the device's first
  // Windows of each layer's attention, 0: all keys; empty: all layers have that of the measured one.
  std::vector<std::int64_t> windows = {};
};

// An input for a layer of a kind, hidden [n, h] of whole blocks, and its trained parameters.
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
  // equally many tokens. `calls` and the device must outlive the profiler.
  static Result<LayerProfiler> open(LayerOptions options, std::vector<LayerExample> examples, LayerCalls& calls,
                                    libtorch::Device& device);

  // Runs layer 0 of `calls`, which is of this kind, by a plan of its own: hidden and d_output [n, h]. Forward and
  // backward, or forward alone where d_output is undefined.
  Result<LayerTrial> try_layer(int kind, LayerCalls& calls, const at::Tensor& hidden, const at::Tensor& d_output,
                               const std::vector<at::Tensor>& parameters);

  // The time of a token in the calls before and after attention, of a layer of each kind, forward and backward.
  [[nodiscard]] Seconds seconds_per_token() const;
  // The profile for a context of whole blocks. `kernel`: of attention; "auto": the fastest (attention_choice.h), or
  // where the sequence is split the options'. `documents`: whether a sequence may have several.
  Result<plan::Profile> profile(Tokens context, const std::string& kernel = "auto", bool documents = true);
  [[nodiscard]] const LayerOptions& options() const { return options_; }

 private:
  LayerProfiler(LayerOptions options, std::vector<LayerExample> examples, LayerCalls& calls, libtorch::Device& device);
  // A session of layers by a plan that keeps everything.
  Result<std::unique_ptr<LayerSession>> open(const model::LayerShape& shape, Tokens context,
                                             const LayerExample& example, LayerCalls& calls);
  [[nodiscard]] LayerExample recorded_example() const;
  [[nodiscard]] model::LayerShape kinds_alone() const;  // a shape with one layer of each kind
  Status find_data_dependent();
  Status measure(Tokens context);
  // The kernel for a context, with its times if it was timed alone.
  Result<libtorch::AttentionChoice> choose(Tokens context, const std::string& kernel, bool documents);
  // The mean attention length of the layers, where their windows differ.
  [[nodiscard]] libtorch::Length mean_length(Tokens tokens) const;

  LayerOptions options_;     // its shape knows which kinds are data dependent
  int measured_ = 0;         // the kind whose attention is measured: the one that sees most keys
  std::int64_t window_ = 0;  // window of its attention
  std::vector<LayerExample> examples_;
  LayerCalls* calls_;
  libtorch::Device* device_;
  const libtorch::AttentionKernel* kernel_ = nullptr;  // the options'
  // By kernel and documents: of the longest context so far.
  std::map<std::pair<std::string, bool>, std::pair<Tokens, libtorch::AttentionChoice>> timed_;
  std::vector<plan::Tier> tiers_;
  std::map<std::tuple<model::SegmentIndex, bool>, std::vector<double>> seconds_;  // of a block, by segment and side
  std::map<std::tuple<model::SegmentIndex, bool>, std::vector<std::pair<libtorch::Length, double>>> attention_;
};

// A text about a layer's allocations for a few tokens and the tensors that autograd keeps. Layers with equal texts are
// of one kind.
struct LayerTraces {
  std::string before, after;  // up to attention, and after it
};
// Traces layer 0 of `calls` for hidden [T, h] as one block of T tokens. `options` has the shape of one layer.
Result<LayerTraces> trace_layer(const LayerOptions& options, const LayerExample& example, LayerCalls& calls,
                                libtorch::Device& device);

}  // namespace memo::plugin
