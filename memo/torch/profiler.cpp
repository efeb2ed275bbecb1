#include "memo/torch/profiler.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "memo/base/text.h"
#include "memo/exec/probe.h"
#include "memo/plan/for_job.h"
#include "memo/sim/planner.h"
#include "memo/torch/allocator.h"
#include "memo/torch/arena.h"
#include "memo/torch/dataset.h"
#include "memo/torch/recorder.h"
#include "memo/torch/saved_tensors.h"
#include "memo/torch/session.h"

namespace memo::edge {
namespace {

constexpr std::int64_t longest_measured = 8192;  // tokens of attention; longer contexts are extrapolated
constexpr std::int64_t exact_up_to = 2048;       // contexts that are measured whole
constexpr int steps_measured = 3;                // at least; the first pays for fresh pages and is not counted
constexpr int most_steps_measured = 8;           // of short contexts, whose steps tell little each
constexpr double seconds_measured = 2;

using Key = std::tuple<int, bool, std::int64_t>;  // segment, backward, tokens

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// How long a row of tokens is, and how many pairs of query and key attention sees in it.
struct Length {
  double tokens = 0, pairs = 0;
};

// Causal, of one document; a query sees `window` keys at most (0: all).
double pairs_seen(double tokens, double window) {
  if (window == 0 || tokens <= window) return tokens * tokens / 2;
  return window * tokens - window * window / 2;
}

// t = a tokens + b pairs through the measured lengths (least squares, relative errors), neither negative.
double attention_seconds(const std::vector<std::pair<Length, double>>& measured, Length length) {
  double s_nn = 0, s_nm = 0, s_mm = 0, s_n = 0, s_m = 0;
  for (const auto& [n, t] : measured) {
    const double u = n.tokens / t, v = n.pairs / t;  // a u + b v = 1
    s_nn += u * u, s_nm += u * v, s_mm += v * v, s_n += u, s_m += v;
  }
  const double determinant = s_nn * s_mm - s_nm * s_nm;
  double a = 0, b = s_m / s_mm;
  if (measured.size() > 1 && determinant > 1e-12 * s_nn * s_mm) {
    a = (s_n * s_mm - s_m * s_nm) / determinant;
    b = (s_m * s_nn - s_n * s_nm) / determinant;
    if (a < 0) a = 0, b = s_m / s_mm;
    if (b < 0) b = 0, a = s_n / s_nn;
  }
  return a * length.tokens + b * length.pairs;
}

class Profiler {
 public:
  Profiler(const job::Job& job, const model::Shape& shape, Device& device,
           const std::function<void(const std::string&)>& say)
      : job_(job), shape_(shape), one_layer_(shape), device_(device), say_(say) {
    one_layer_.layers = 1;
    groups_ = job_groups(job, shape);
    block_ = plan::job_block(job);
    element_bytes_ = job.model.dtype == job::DType::bfloat16 ? 2 : 4;
  }

  Result<plan::Profile> run() {
    plan::Profile profile;
    profile.model = fmt::format("{} {} x {}, {}", shape_.family, shape_.layers, shape_.hidden,
                                element_bytes_ == 2 ? "bfloat16" : "float32");
    profile.device = device_.name();
    profile.fixed = plan::fixed_memory(shape_, job_.model.dtype);
    MEMO_CHECKED(record_at(shape_, job_.train.context, profile));
    for (const Tokens context : contexts()) MEMO_CHECKED(measure(context));
    MEMO_TRY(const Length length, usual_length());
    for (plan::Trace& trace : profile.traces) {
      const auto stage = profile.flow.segments[static_cast<std::size_t>(trace.segment)].stage;
      double seconds = 0;
      if (stage == model::Stage::core) {
        seconds = attention_seconds(attention_[{trace.segment, trace.backward}], part_of(length, trace.tokens));
      } else if (once_a_step(stage)) {
        seconds = median(seconds_[{trace.segment, false, 0}]);
      } else if (stage != model::Stage::wait) {
        const auto found = seconds_.find({trace.segment, trace.backward, trace.tokens.value()});
        if (found != seconds_.end()) seconds = median(found->second);
      }
      trace.seconds = Seconds(seconds);
    }
    MEMO_CHECKED(add_tier(profile));
    return profile;
  }

 private:
  // Whatever the context.
  static bool once_a_step(model::Stage stage) {
    return stage == model::Stage::update || stage == model::Stage::optimizer;
  }
  Length length_of(double tokens) const {
    return {tokens, pairs_seen(tokens, static_cast<double>(shape_.sliding_window))};
  }

  // Its first tokens; documents apart are many.
  Length part_of(const Length& whole, Tokens tokens) const {
    const auto n = static_cast<double>(tokens.value());
    return job_.data.documents_apart ? Length{n, whole.pairs * n / whole.tokens} : length_of(n);
  }

  // Of the job's context: one document, or the mean over some samples where documents are apart.
  Result<Length> usual_length() const {
    const std::int64_t context = job_.train.context.value();
    if (!job_.data.documents_apart || job_.data.files.empty()) return length_of(static_cast<double>(context));
    MEMO_TRY(const Dataset data, Dataset::open(job_.data, shape_.vocab));
    MEMO_CHECKED(data.check_context(job_.train.context));
    constexpr std::int64_t samples = 8;
    double pairs = 0;
    for (std::int64_t i = 0; i < samples; ++i) {
      std::vector<std::int64_t> starts =
          data.document_starts(sample_start(job_.seed, i, context, data.tokens()), context);
      starts.push_back(context);
      for (std::size_t d = 0; d + 1 < starts.size(); ++d)
        pairs += length_of(static_cast<double>(starts[d + 1] - starts[d])).pairs / static_cast<double>(samples);
    }
    return Length{static_cast<double>(context), pairs};
  }

  // Contexts of one layer that are run to measure times: whole when short, else two that give attention's growth. All
  // end with a block of the same size as the job's.
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

  // The table and traces of a context, without times.
  Status record_at(const model::Shape& shape, Tokens context, plan::Profile& profile) {
    const WholeState whole(one_layer_, job_.model.dtype);
    MEMO_TRY(const Arena memory, device_.map(whole.bytes()));
    ModelState state(
        one_layer_, job_.model.dtype, [&](const StateGroup& group) { return whole.regions(memory.data(), group); },
        nullptr, device_.of_tensors());
    const Decoder decoder(one_layer_, groups_, state.parameters());
    profile.flow = model::decoder_dataflow(shape, element_bytes_, groups_, context, block_);
    const std::span<const std::byte> parameters(memory.data(), static_cast<std::size_t>(whole.bytes().value()));
    MEMO_TRY(profile.traces, run_on(device_, [&] {
               return record(
                   profile.flow, decoder, scalar_type(job_.model.dtype), parameters,
                   [&](const StateGroup& group) {
                     (void)state.accepts(group, job_.train, {});  // of whatever values are there
                     state.update(group, job_.train, 1, 0.0);
                   },
                   device_.of_tensors());
             }));
    return {};
  }

  // Runs one layer at `context` for a few steps by a plan of its own, and keeps the calls' times.
  Status measure(Tokens context) {
    if (say_) say_(fmt::format("profile: one layer at {} tokens", context.value()));
    plan::Profile small;
    small.fixed = plan::fixed_memory(one_layer_, job_.model.dtype);
    MEMO_CHECKED(record_at(one_layer_, context, small));
    MEMO_TRY(plan::Plan plan, sim::make_plan(small, {"resident", Bytes(0), 0}));
    MEMO_TRY(auto session, Session::open(std::move(plan), one_layer_, job_, device_));
    MEMO_CHECKED(run_on(device_, [&] { return session->state().initialise(job_.seed); }));
    const std::vector<Sample> samples{make_sample(at::randint(shape_.vocab, {context.value() + 1}, at::kLong))};
    std::map<std::pair<int, bool>, std::vector<double>> core;
    double spent = 0;
    for (int step = 1; step <= steps_measured || (step <= most_steps_measured && spent < seconds_measured); ++step) {
      MEMO_TRY(const StepResult result, session->step(samples, step, 0.0));
      spent += result.seconds.value();
      if (step == 1) continue;
      for (const exec::Span& span : result.report.calls) {
        const plan::Program& program = session->plan().program;
        const plan::Call& call = program.calls[static_cast<std::size_t>(span.index)];
        const plan::Trace& trace = session->plan().profile.traces[static_cast<std::size_t>(call.trace)];
        const auto stage = small.flow.segments[static_cast<std::size_t>(call.segment)].stage;
        const double seconds = span.end - span.start;
        if (stage == model::Stage::core) {
          core[{call.segment, trace.backward}].push_back(seconds);
        } else {
          const std::int64_t tokens = once_a_step(stage) ? 0 : trace.tokens.value();
          seconds_[{call.segment, trace.backward, tokens}].push_back(seconds);
        }
      }
    }
    for (const auto& [key, values] : core)
      attention_[key].emplace_back(length_of(static_cast<double>(context.value())), median(values));
    return {};
  }

  Status add_tier(plan::Profile& profile) {
    if (job_.memory.host_limit > Bytes(0) && job_.memory.disk)
      return bad_input("a plan has one tier so far: set memory.host_limit or memory.disk, not both");
    if (job_.memory.host_limit > Bytes(0)) return add_host(profile);
    return job_.memory.disk ? add_disk(profile) : Status();
  }

  Status add_disk(plan::Profile& profile) {
    std::error_code error;
    const auto space = std::filesystem::space(*job_.memory.disk, error);
    if (error)
      return bad_input(fmt::format("memory.disk = \"{}\": {}; name an existing folder", job_.memory.disk->string(),
                                   error.message()));
    const Bytes free(static_cast<std::int64_t>(space.available / 10 * 9));
    const Bytes capacity = job_.memory.disk_limit > Bytes(0) ? job_.memory.disk_limit : free;
    if (capacity > Bytes(static_cast<std::int64_t>(space.available)))
      return bad_input(fmt::format("memory.disk_limit = {}, but {} has {} free: free some space or lower the limit",
                                   format_bytes(capacity), job_.memory.disk->string(),
                                   format_bytes(Bytes(static_cast<std::int64_t>(space.available)))));
    if (say_) say_("profile: disk tier");
    constexpr std::int64_t page = 4096;                                            // direct I/O's alignment
    const std::int64_t half = std::max(page, capacity.value() / 2 / page * page);  // a probe has two requests at least
    const Bytes request = std::min(Bytes(8 << 20), Bytes(half));
    const Bytes probe = round_up(std::max(request * 2, std::min(Bytes(192 << 20), capacity)), page);
    MEMO_TRY(const auto store, exec::disk_tier(*job_.memory.disk, probe));
    return add_rates("disk", *store, capacity, probe, round_up(request, page), page, profile);
  }

  Status add_host(plan::Profile& profile) {
    if (say_) say_("profile: host tier");
    constexpr Bytes request(16 << 20);
    const Bytes capacity = job_.memory.host_limit, probe = request * 8;
    MEMO_TRY(const auto store, device_.host_tier(probe));
    return add_rates("host", *store, capacity, probe, request, plan::copy_alignment, profile);
  }

  // A tier's rates, through the same copy streams that a run uses.
  Status add_rates(const char* name, exec::TierStore& store, Bytes capacity, Bytes probe, Bytes request,
                   std::int64_t alignment, plan::Profile& profile) {
    MEMO_TRY(const auto engine, device_.copy_engine({&store}));
    MEMO_TRY(const Arena memory, device_.map(request * 2));
    const auto options = at::dtype(at::kFloat).device(device_.of_tensors());
    at::Tensor a, b, c;
    device_.run([&] { a = at::full({512, 512}, 0.5, options), b = a.clone(), c = at::empty({512, 512}, options); });
    const auto work = [&] {
      device_.run([&] { at::mm_out(c, a, b); });
      device_.finish();
    };
    MEMO_TRY(const exec::TierRates rates, exec::measure_tier(*engine, memory.data(), probe, request, work));
    profile.tiers.push_back({name, capacity, rates.write, rates.read, rates.write_with_read, rates.read_with_write,
                             rates.compute_slowdown, alignment});
    return {};
  }

  const job::Job& job_;
  const model::Shape& shape_;
  model::Shape one_layer_;
  Device& device_;
  const std::function<void(const std::string&)>& say_;
  Tokens block_;
  int groups_ = 1, element_bytes_ = 4;
  std::map<Key, std::vector<double>> seconds_;
  std::map<std::pair<int, bool>, std::vector<std::pair<Length, double>>> attention_;
};

}  // namespace

int job_groups(const job::Job& job, const model::Shape& shape) {
  if (job.train.head_groups > 0) return job.train.head_groups;
  for (std::int64_t groups = shape.kv_heads; groups > 1; --groups)
    if (shape.kv_heads % groups == 0 && shape.heads / groups >= at::get_num_threads()) return static_cast<int>(groups);
  return 1;
}

Result<plan::Profile> profile_job(const job::Job& job, Device& device,
                                  const std::function<void(const std::string&)>& say) {
  install_allocator();
  install_saved_tensor_hooks();
  MEMO_TRY(const model::Shape shape, model::job_shape(job));
  return Profiler(job, shape, device, say).run();
}

}  // namespace memo::edge
