// Builds a profile's dataflow, traces, fixed memory and tier from a layer's sizes and times.
#include "memo/estimate/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "memo/plan/for_job.h"

namespace memo::estimate {
namespace {

using model::SegmentRole;
using model::Stage;
using model::TensorRole;

struct PerParameter {
  double weights, gradients, optimizer;  // bytes for each parameter
};

PerParameter per_parameter(State state) {
  switch (state) {
    case State::mixed:
      return {2, 4, 12};
    case State::master:
      return {4, 4, 8};
    case State::pure:
      return {2, 2, 4};
    case State::zero:
      return {2, 2, 12};
  }
  return {};
}

Bytes bytes_of(double value) { return Bytes(static_cast<std::int64_t>(value)); }

class Modeller {
 public:
  Modeller(const Setup& setup, int layers_in_flight) : setup_(setup), layer_(setup), in_flight_(layers_in_flight) {}

  Modelled run() {
    plan::Profile& profile = result_.profile;
    profile.model = fmt::format("{} {} x {}", setup_.model_name, setup_.shape.layers, setup_.shape.hidden);
    profile.device = fmt::format("{} x {}{}", setup_.gpus, setup_.hardware.name, plan::paper_mark);
    profile.attention = setup_.hardware.attention_of(setup_.attention).kernel;
    if (setup_.execution == Execution::blocks)
      profile.loss_tile = Tokens(static_cast<std::int64_t>(layer_.loss_tile()));
    profile.flow = layer_.dataflow();
    profile.flow.layers *= in_flight_;
    add_saved();
    add_traces();
    add_state();
    add_host();
    add_once_a_step();
    return std::move(result_);
  }

 private:
  model::Dataflow& flow() { return result_.profile.flow; }
  model::Segment& segment(SegmentRole role) { return flow().segments[flow().find_segment(role)]; }

  // Adds saved tensors of each segment: its inputs, and the further ones by Layer::footprint.
  void add_saved() {
    segment(SegmentRole::attn_in).backward.reads.push_back({flow().find_class(TensorRole::hidden)});
    segment(SegmentRole::attn_out)
        .backward.reads.push_back({flow().find_class(TensorRole::attention_output), 0, false, true});
    segment(SegmentRole::mlp_in).backward.reads.push_back({flow().find_class(TensorRole::residual)});
    segment(SegmentRole::mlp_out).backward.reads.push_back({flow().find_class(TensorRole::mlp_inner)});
    for (const SegmentRole role : {SegmentRole::attn_in, SegmentRole::mlp_in, SegmentRole::mlp_out}) {
      model::Segment& of = segment(role);
      const double saved = layer_.footprint(of).saved;
      if (saved < 1) continue;
      const model::ClassIndex cls = flow().classes.end_index();
      flow().classes.push_back({of.name + ".saved", TensorRole::saved, bytes_of(saved)});
      of.forward.writes.push_back({cls});
      of.backward.reads.push_back({cls});
    }
  }

  void add_trace(model::SegmentIndex index, bool backward, Tokens tokens, const Split& split, Bytes transient) {
    plan::Trace trace{index, backward, tokens, Seconds(split.total()), {}};
    if (transient > Bytes(0)) trace.requests = {{.bytes = round_up(transient, 64), .born = 0, .dies = 1}};
    result_.profile.traces.push_back(std::move(trace));
    result_.splits.push_back(split);
  }

  void add_traces() {
    const std::set<Tokens> sizes{flow().block, flow().block_tokens(flow().last_block())};
    for (const model::SegmentIndex s : flow().segments.indices()) {
      const model::Segment& segment = flow().segments[s];
      const Footprint footprint = layer_.footprint(segment);
      const auto call = [&](bool backward, Tokens tokens) {
        const Tokens at_once = setup_.by_alpha() && segment.stage != Stage::core ? flow().context : tokens;
        const double grows = (backward ? footprint.backward : footprint.forward) * static_cast<double>(at_once.value());
        const bool loss = segment.stage == Stage::loss && !backward;
        add_trace(s, backward, tokens, layer_.time(segment, backward, tokens),
                  loss ? layer_.loss_transients(at_once) : bytes_of(grows));
      };
      switch (segment.stage) {
        case Stage::wait:
          add_trace(s, false, flow().context, {}, Bytes(0));
          break;
        case Stage::update:
        case Stage::optimizer:
        case Stage::host_update:
          call(false, flow().context);
          break;
        case Stage::core:
          for (const bool backward : {false, true}) call(backward, flow().context);
          for (const int blocks : flow().prefixes())
            call(false, std::min(flow().context, flow().block * std::int64_t{blocks}));
          break;
        default:
          for (const Tokens tokens : sizes)
            for (const bool backward : {false, true}) call(backward, tokens);
      }
    }
  }

  // Weights, gradients and optimizer state as ranks share them; then the memory for gathered ones.
  void add_state() {
    if (setup_.as_run()) {  // the dataflow's table has the sizes of layers
      const bool float32 = setup_.element_bytes == 4;
      result_.profile.fixed = plan::fixed_memory(setup_.shape, float32 ? job::DType::float32 : job::DType::bfloat16);
      return;
    }
    const PerParameter bytes = per_parameter(setup_.state);
    const double ranks = setup_.shards();
    const auto part = [&](Shard from) { return setup_.shard >= from ? 1 / ranks : 1.0; };
    const double weights = bytes.weights * part(Shard::weights), gradients = bytes.gradients * part(Shard::gradients),
                 optimizer = bytes.optimizer * part(Shard::optimizer);
    const double kept_weights = setup_.offload_weights ? 0 : weights;
    const double kept_optimizer = setup_.offload_optimizer ? 0 : optimizer;
    // On the host with the optimizer, which uses them.
    const double kept_gradients = setup_.offload_optimizer ? 0 : gradients;
    const double layer = layer_.layer_parameters(), other = layer_.other_parameters();
    const int layers = flow().layers / in_flight_;
    for (model::TensorClass& cls : flow().classes) {
      if (!cls.persistent()) continue;
      const double size = cls.role == TensorRole::weights     ? kept_weights
                          : cls.role == TensorRole::gradients ? kept_gradients
                                                              : kept_optimizer;
      const double parameters = cls.stage == Stage::before ? layer_.before_parameters() : layer_.after_parameters();
      cls.layer_bytes = std::max(Bytes(64), bytes_of(size * parameters / in_flight_));
    }
    std::vector<plan::Fixed>& fixed = result_.profile.fixed;
    for (const auto& [kind, size] : {std::pair("weights", kept_weights), std::pair("gradients", kept_gradients),
                                     std::pair("optimizer", kept_optimizer)})
      fixed.push_back({kind, std::max(Bytes(64), bytes_of(size * other))});
    if (setup_.shard == Shard::weights && ranks > 1) fixed.push_back({"gathered", bytes_of(gathered(layer * layers))});
    const double all = layer * layers + other;
    result_.host_state = bytes_of(
        all * ((setup_.offload_optimizer ? optimizer + gradients : 0) + (setup_.offload_weights ? weights : 0)));
  }

  // Bytes of sharded weights that are gathered at a time: those of the running layer and the next, gradients of one
  // layer, and the embedding and head, which FSDP's root keeps gathered. DeepSpeed by default holds 10^9 parameters
  // (stage3_max_live_parameters) and two buckets of 5 x 10^8 gradients (reduce_bucket_size).
  [[nodiscard]] double gathered(double all_layers) const {
    const double layer = layer_.layer_parameters(), other = layer_.other_parameters();
    if (setup_.state == State::zero)
      return 2 * std::min(1e9, all_layers + other) + 2 * 2 * std::min(5e8, all_layers + other);
    return 2 * (2 * layer + other) + per_parameter(setup_.state).gradients * (layer + other);
  }

  void add_host() {
    if (!setup_.offload_inputs && !setup_.offload_all) return;
    const Hardware& gpu = setup_.hardware;
    const int sharing = std::min(setup_.gpus, gpu.gpus_per_node);
    constexpr double usable = 0.9;  // share of host memory
    const double room = usable * static_cast<double>(gpu.host_memory.value()) / sharing;
    const Bytes capacity = bytes_of(std::max(0.0, room - static_cast<double>(result_.host_state.value())));
    result_.profile.tiers = {{gpu.tier, capacity, gpu.host.write, gpu.host.read, gpu.host.write_with_read,
                              gpu.host.read_with_write, gpu.host.compute_slowdown, 4096}};
  }

  void add_once_a_step() {
    if (setup_.as_run()) return;  // updates are calls
    const double ranks = setup_.shards();
    const double all = layer_.layer_parameters() * flow().layers / in_flight_ + layer_.other_parameters();
    const double own = setup_.shard == Shard::none ? all : all / ranks;
    result_.once_a_step = update_seconds(setup_, own);
    if (setup_.shard == Shard::weights || ranks <= 1) return;
    // Gradients are reduced during backward, except the last layer's; gathering weights overlaps nothing.
    const double gather = all_gather_seconds(setup_, all * 2, setup_.shards(), setup_.degrees.tensor);
    result_.once_a_step += 2 * gather;
  }

  const Setup& setup_;
  const Layer layer_;
  int in_flight_;
  Modelled result_;
};

}  // namespace

double calls_seconds(const Modelled& modelled, const std::function<bool(const model::Segment&, bool)>& counts) {
  const model::Dataflow& flow = modelled.profile.flow;
  const auto calls_of = [&](model::SegmentIndex segment, bool backward, Tokens tokens, int calls) {
    const int layers = flow.layered(segment) ? flow.layers : 1;
    const plan::TraceIndex trace = modelled.profile.trace_of(segment, backward, tokens);
    return modelled.profile.traces[trace].seconds.value() * calls * layers;
  };
  double seconds = 0;
  for (const model::SegmentIndex s : flow.segments.indices()) {
    const model::Segment& segment = flow.segments[s];
    if (segment.stage > Stage::loss) continue;
    for (const bool backward : {false, true}) {
      if (!counts(segment, backward)) continue;
      if (segment.stage == Stage::core) {
        seconds += calls_of(s, backward, flow.context, flow.groups);
        continue;
      }
      seconds += calls_of(s, backward, flow.block, flow.blocks() - 1);
      seconds += calls_of(s, backward, flow.block_tokens(flow.last_block()), 1);
    }
  }
  return seconds;
}

Modelled model_profile(const Setup& setup, int layers_in_flight) { return Modeller(setup, layers_in_flight).run(); }

}  // namespace memo::estimate
