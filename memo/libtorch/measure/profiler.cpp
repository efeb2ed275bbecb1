// Profiles of a job: traces by the recorder, times from a few steps of one layer, rates of the tier.
#include "memo/libtorch/measure/profiler.h"

#include <ATen/ops/randint.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "memo/base/median.h"
#include "memo/corpus/dataset.h"
#include "memo/libtorch/measure/attention_choice.h"
#include "memo/libtorch/measure/block_time.h"
#include "memo/libtorch/measure/host_update_time.h"
#include "memo/libtorch/measure/recorder.h"
#include "memo/libtorch/measure/tier_profile.h"
#include "memo/libtorch/memory/allocator.h"
#include "memo/libtorch/memory/arena.h"
#include "memo/libtorch/memory/saved_tensors.h"
#include "memo/libtorch/model/decoder_segments.h"
#include "memo/libtorch/run/session.h"
#include "memo/plan/for_job.h"
#include "memo/planner/planner.h"

namespace memo::libtorch {
namespace {

// Longest measured attention, in tokens; longer contexts are extrapolated.
constexpr std::int64_t longest_measured = 8192;
constexpr std::int64_t exact_up_to = 2048;  // contexts up to this many tokens are measured whole
constexpr int steps_measured = 3;           // at least this many; the first pays for fresh pages and is not counted
constexpr int most_steps_measured = 8;      // for short contexts, whose single steps are too short to time well
constexpr double seconds_measured = 2;

using Key = std::tuple<plan::SegmentIndex, bool, std::int64_t>;  // segment, backward, tokens

class Profiler {
 public:
  Profiler(const job::Job& job, const model::Shape& shape, Device& device,
           const std::function<void(const std::string&)>& say, const Path& python)
      : job_(job), shape_(shape), one_layer_(shape), device_(device), say_(say), python_(python) {
    one_layer_.layers = 1;
    element_bytes_ = job.model.dtype == job::DType::bfloat16 ? 2 : 4;
  }

  Result<plan::Profile> run() {
    plan::Profile profile;
    profile.model = fmt::format("{} {} x {}, {}", shape_.family, shape_.layers, shape_.hidden,
                                element_bytes_ == 2 ? "bfloat16" : "float32");
    profile.device = device_.name();
    profile.fixed = plan::fixed_memory(shape_, job_.model.dtype);
    MEMO_TRY(profile.blocks_measured, choose_sizes());
    profile.loss_tile = loss_tile_;
    MEMO_TRY(attention_kernel_, choose_attention(attention_kernels(device_.of_tensors().type()), job_.train.attention,
                                                 core_calls(), device_, say_));
    MEMO_CHECKED(record_at(shape_, job_.train.context, profile, host_may_update()));
    for (const Tokens context : contexts()) MEMO_CHECKED(measure(context));
    MEMO_TRY(const Length length, usual_length());
    for (plan::Trace& trace : profile.traces) {
      const auto stage = profile.flow.segments[trace.segment].stage;
      double seconds = 0;
      if (stage == model::Stage::core) {
        const auto& alone = trace.backward ? attention_kernel_.backward : attention_kernel_.forward;
        seconds = attention_seconds(alone.empty() ? attention_[{trace.segment, trace.backward}] : alone,
                                    part_of(length, trace.tokens));
      } else if (once_a_step(stage)) {
        seconds = median(seconds_[{trace.segment, false, 0}]);
      } else if (stage == model::Stage::host_update) {
        seconds = host_update_seconds(one_layer_, job_.model.dtype, profile.flow.segments[trace.segment].role).value();
      } else if (stage != model::Stage::wait) {
        const auto found = seconds_.find({trace.segment, trace.backward, trace.tokens.value()});
        if (found != seconds_.end()) seconds = median(found->second);
      }
      trace.seconds = Seconds(seconds);
    }
    profile.attention_measured = attention_kernel_.measured;
    MEMO_CHECKED(add_tier(profile, job_.memory, device_, say_));
    return profile;
  }

 private:
  [[nodiscard]] CoreCalls core_calls() const {
    return {{shape_.heads / groups_, shape_.kv_heads / groups_, shape_.head_dim},
            scalar_type(job_.model.dtype),
            job_.train.context,
            shape_.sliding_window,
            false,
            job_.data.documents_apart,
            job_.train.context.value() <= longest_in_order};
  }

  // Decides on sizes that the job leaves to Memo; returns the times by which a block was chosen among several.
  Result<std::vector<model::BlockTime>> choose_sizes() {
    const model::DeviceSizes sizes = sizes_of(device_);
    const job::TrainOptions& train = job_.train;
    groups_ = train.head_groups > 0 ? train.head_groups : sizes.groups(shape_.heads, shape_.kv_heads);
    std::vector<model::BlockTime> measured;
    if (train.block > Tokens(0)) {
      block_ = std::min(train.block, train.context);
    } else {
      const std::vector<Tokens> blocks = sizes.blocks(train.context);
      if (blocks.size() > 1) {
        MEMO_TRY(measured, time_blocks(one_layer_, job_.model.dtype, groups_, blocks, device_));
      }
      block_ = measured.empty() ? blocks.front() : model::best_block(measured);
    }
    if (say_ && !measured.empty()) say_(fmt::format("profile: blocks of {} tokens", block_.value()));
    const Bytes row(shape_.vocab * element_bytes_);
    loss_tile_ = train.loss_tile > Tokens(0) ? train.loss_tile : sizes.loss_tile(block_, row);
    return measured;
  }

  // Whether plans may have the host update layers: a GPU copies to and from its memory, and no copy has a checksum.
  [[nodiscard]] bool host_may_update() const {
    return !device_.of_tensors().is_cpu() && job_.memory.host_limit > Bytes(0) &&
           job_.memory.checksums != job::Checksums::all;
  }

  // Whether a segment's time does not depend on the context.
  static bool once_a_step(model::Stage stage) {
    return stage == model::Stage::update || stage == model::Stage::optimizer;
  }
  Length length_of(double tokens) const {
    return {tokens, pairs_seen(tokens, static_cast<double>(shape_.sliding_window))};
  }

  // The first `tokens` of a row. Where documents are apart, a row is taken to have many.
  Length part_of(const Length& whole, Tokens tokens) const {
    const auto n = static_cast<double>(tokens.value());
    return job_.data.documents_apart ? Length{n, whole.pairs * n / whole.tokens} : length_of(n);
  }

  // The attention length of the job's context: one document, or the mean over some samples where documents are apart.
  Result<Length> usual_length() const {
    const std::int64_t context = job_.train.context.value();
    if (!job_.data.documents_apart || job_.data.files.empty()) return length_of(static_cast<double>(context));
    MEMO_TRY(const corpus::Dataset data,
             corpus::Dataset::open(job_.data, shape_.vocab, {python_, !job_.memory.encrypt}));
    MEMO_CHECKED(data.check_context(job_.train.context));
    constexpr std::int64_t samples = 8;
    double pairs = 0;
    for (std::int64_t i = 0; i < samples; ++i) {
      std::vector<std::int64_t> starts =
          data.document_starts(corpus::sample_start(job_.seed, i, context, data.tokens()), context);
      starts.push_back(context);
      for (std::size_t d = 0; d + 1 < starts.size(); ++d)
        pairs += length_of(static_cast<double>(starts[d + 1] - starts[d])).pairs / static_cast<double>(samples);
    }
    return Length{static_cast<double>(context), pairs};
  }

  // The contexts at which one layer is run to measure times: the job's own when it is short, else two that give
  // attention's growth. All end with a block of the same size as the job's.
  std::vector<Tokens> contexts() const {
    const std::int64_t s = job_.train.context.value(), t = block_.value();
    if (s <= std::max(exact_up_to, 2 * t)) return {Tokens(s)};
    const std::int64_t tail = s % t;
    const auto at_most = [&](std::int64_t limit) { return std::max<std::int64_t>(1, (limit - tail) / t) * t + tail; };
    const std::int64_t large = at_most(std::min(s / 2, std::max(longest_measured, 2 * t)));
    const std::int64_t small = at_most(large / 2);
    if (small == large) return {Tokens(large)};
    return {Tokens(small), Tokens(large)};
  }

  // Adds the dataflow and traces at a context, without times.
  Status record_at(const model::Shape& shape, Tokens context, plan::Profile& profile, bool host_updates) {
    const WholeState whole(one_layer_, job_.model.dtype);
    MEMO_TRY(const Arena memory, device_.map(whole.bytes()));
    profile.flow = model::decoder_dataflow(shape, element_bytes_, groups_, context, block_);
    if (host_updates) model::add_host_updates(profile.flow);
    profile.attention = attention_kernel_.kernel->name;
    MEMO_TRY(profile.traces, run_on(device_, [&] { return record_in(whole, memory, profile.flow); }));
    return {};
  }

  Result<IndexedVector<plan::TraceIndex, plan::Trace>> record_in(const WholeState& whole, const Arena& memory,
                                                                 model::Dataflow& flow) {
    const at::Device place = device_.of_tensors();
    ModelState state(
        one_layer_, job_.model.dtype, [&](const StateGroup& group) { return whole.regions(memory.data(), group); },
        nullptr, place);
    const Decoder decoder(one_layer_, groups_, state.parameters(), loss_tile_, attention_kernel_.kernel);
    const LossSum no_loss = LossSum::on(place);
    DecoderSegments segments(
        flow, decoder,
        [&](const StateGroup& group, bool on_host) {
          (void)state.accepts(group, job_.train, no_loss);  // whatever values the tensors hold
          on_host ? state.bring_gate_to_host() : state.update(group, job_.train, 1, 0.0);
        },
        place);
    const std::span<const std::byte> parameters(memory.data(), static_cast<std::size_t>(whole.bytes().value()));
    return record(flow, segments, scalar_type(job_.model.dtype), parameters, place,
                  attention_kernel_.kernel->limits.documents);
  }

  // Runs one layer at `context` for a few steps, by a plan of its own, and keeps the times of calls.
  Status measure(Tokens context) {
    if (say_) say_(fmt::format("profile: one layer at {} tokens", context.value()));
    plan::Profile small;
    small.fixed = plan::fixed_memory(one_layer_, job_.model.dtype);
    small.loss_tile = loss_tile_;
    MEMO_CHECKED(record_at(one_layer_, context, small, false));
    MEMO_TRY(plan::Plan plan, planner::make_plan(small, {"resident", Bytes(0), 0}));
    MEMO_TRY(auto session, Session::open(std::move(plan), one_layer_, job_, device_));
    MEMO_CHECKED(run_on(device_, [&] { return session->state().initialise(job_.seed); }));
    const std::vector<Sample> samples{make_sample(at::randint(shape_.vocab, {context.value() + 1}, at::kLong))};
    std::map<std::pair<plan::SegmentIndex, bool>, std::vector<double>> core;
    double spent = 0;
    for (int step = 1; step <= steps_measured || (step <= most_steps_measured && spent < seconds_measured); ++step) {
      MEMO_TRY(const StepResult result, session->step(samples, step, 0.0));
      spent += result.seconds.value();
      if (step == 1) continue;
      for (const exec::Span& span : result.report.calls) {
        const plan::Program& program = session->plan().program;
        const plan::Call& call = program.calls[plan::CallIndex(span.index)];
        const plan::Trace& trace = session->plan().profile.traces[call.trace];
        const auto stage = small.flow.segments[call.segment].stage;
        const double seconds = span.end - span.start;
        if (stage == model::Stage::core) {
          core[{call.segment, trace.backward}].push_back(seconds);
        } else {
          const std::int64_t tokens = once_a_step(stage) ? 0 : trace.tokens.value();
          seconds_[{call.segment, trace.backward, tokens}].push_back(seconds);
        }
      }
    }
    if (attention_kernel_.forward.empty()) note_attention(context, core);
    return {};
  }

  // Keeps the times of attention within steps of one layer.
  void note_attention(Tokens context, const std::map<std::pair<plan::SegmentIndex, bool>, std::vector<double>>& core) {
    plan::AttentionTime measured{attention_kernel_.kernel->name, context, {}, {}};
    for (const auto& [key, values] : core) {
      (key.second ? measured.backward : measured.forward) = Seconds(median(values));
      attention_[key].emplace_back(length_of(static_cast<double>(context.value())), median(values));
    }
    attention_kernel_.measured.push_back(std::move(measured));
  }

  const job::Job& job_;
  const model::Shape& shape_;
  model::Shape one_layer_;
  Device& device_;
  const std::function<void(const std::string&)>& say_;
  const Path& python_;
  Tokens block_, loss_tile_;
  int groups_ = 1, element_bytes_ = 4;
  AttentionChoice attention_kernel_;
  std::map<Key, std::vector<double>> seconds_;
  std::map<std::pair<plan::SegmentIndex, bool>, std::vector<std::pair<Length, double>>> attention_;
};

}  // namespace

Result<plan::Profile> profile_job(const job::Job& job, Device& device,
                                  const std::function<void(const std::string&)>& say, const Path& python) {
  install_allocator();
  install_saved_tensor_hooks();
  MEMO_TRY(const model::Shape shape, model::job_shape(job));
  return Profiler(job, shape, device, say, python).run();
}

}  // namespace memo::libtorch
