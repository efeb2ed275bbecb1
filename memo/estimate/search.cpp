// Lists ways, bounds their time and memory, and plans the promising ones.
#include "memo/estimate/search.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "memo/base/check.h"
#include "memo/estimate/profile.h"
#include "memo/estimate/run_sizes.h"

namespace memo::estimate {
namespace {

struct Candidate {
  const Strategy* strategy = nullptr;
  Setup setup;
  double least_seconds = 0;  // lower bound per token and GPU: calls alone, without reruns and waits
  Bytes least_bytes;
  bool pages = false;  // state is larger than the GPU: planned only where no other way fits, since that takes long
};

// A way is worth a plan if its bound is below this share of the best time.
constexpr double worth = 0.99;

std::vector<int> powers(bool allowed, int most) {
  std::vector<int> all{1};
  while (allowed && all.back() * 2 <= most) all.push_back(all.back() * 2);
  return all;
}

std::vector<Degrees> degrees_of(const Task& task, const Strategy& strategy) {
  if (task.degrees) return {*task.degrees};
  std::vector<Degrees> all;
  const int node = task.hardware.gpus_per_node;
  for (const int tensor : powers(strategy.tensor, std::min(node, task.gpus)))
    for (const int ulysses : powers(strategy.ulysses, task.gpus / tensor))
      for (const int ring : powers(strategy.ring, task.gpus / tensor / ulysses))
        for (const int pipeline : powers(strategy.pipeline, task.gpus / tensor / ulysses / ring)) {
          const int model = tensor * ulysses * ring * pipeline;
          if (task.gpus % model != 0) continue;
          Degrees degrees;
          degrees.tensor = tensor, degrees.ulysses = ulysses, degrees.ring = ring, degrees.pipeline = pipeline;
          degrees.data = task.gpus / model;
          all.push_back(degrees);
        }
  return all;
}

Setup setup_of(const Task& task, const Strategy& strategy, const Degrees& degrees) {
  Setup setup;
  setup.model_name = task.model_name, setup.shape = task.shape, setup.hardware = task.hardware;
  setup.gpus = task.gpus, setup.context = task.context, setup.degrees = degrees;
  setup.fp8 = task.fp8, setup.attention = task.attention;
  setup.system = strategy.name;
  strategy.apply(setup);
  const bool of_memo = setup.execution == Execution::blocks && setup.state == State::mixed;
  if (setup.attention.empty() && of_memo) setup.attention = attention_of_memo(setup);
  setup.recompute = task.recompute.value_or(setup.recompute);
  setup.shard = task.shard.value_or(setup.shard);
  setup.offload_inputs = setup.offload_inputs || task.offload_inputs;
  if (task.float32) setup.element_bytes = 4, setup.state = State::master;
  setup.block = task.block;
  if (setup.as_run()) {
    choose_sizes(setup);
    setup.host_updates = setup.offload_all && setup.hardware.tier == "host";
  } else if (setup.block == Tokens(0)) {
    setup.block = usual_block(setup.local_tokens());
  }
  setup.micro_batches =
      static_cast<int>(task.batch == 0 ? (degrees.pipeline > 1 ? 4 * degrees.pipeline : 1) : task.batch / degrees.data);
  return setup;
}

double least_seconds(const Setup& setup, const Modelled& modelled) {
  const double seconds = calls_seconds(modelled, [](const model::Segment&, bool) { return true; });
  const double tokens = static_cast<double>(setup.context.value()) * setup.sequences * setup.degrees.data;
  return seconds / tokens * setup.gpus;
}

// Memory that every placement needs: the operands of one backward call of core attention, with as many head groups as a
// run may try, and state, of which plans with a tier page what belongs to layers.
Bytes least_bytes(const Setup& setup, const Modelled& modelled, bool pages) {
  const model::Dataflow& flow = modelled.profile.flow;
  Bytes state;
  for (const plan::Fixed& fixed : modelled.profile.fixed) state += fixed.bytes;
  for (const model::TensorClass& cls : flow.classes)
    if (cls.persistent() && !pages) state += cls.layer_bytes * std::int64_t{flow.layers};
  Bytes operands;
  for (const model::Segment& segment : flow.segments)
    if (segment.stage == model::Stage::core)
      for (const auto* uses : {&segment.backward.reads, &segment.backward.writes})
        for (const model::Use& use : *uses) operands += flow.classes[use.cls].row * flow.context.value();
  const std::int64_t more_groups = setup.as_run() ? setup.shape.kv_heads / flow.groups : 1;
  return state + Bytes(operands.value() / more_groups);
}

double seconds_a_token(const Found& found) { return 1 / found.estimate.tokens_per_second_gpu; }

Result<Outcome> search_all(const Task& task, const std::vector<Strategy>& strategies, std::size_t most) {
  Outcome outcome;
  std::vector<Candidate> candidates;
  for (const Strategy& strategy : strategies)
    for (const Degrees& degrees : degrees_of(task, strategy)) {
      Candidate candidate{&strategy, setup_of(task, strategy, degrees), 0, {}};
      if (const Status valid = check_setup(candidate.setup); !valid) {
        if (task.degrees) return tl::unexpected<Error>(valid.error());
        continue;
      }
      if (candidate.setup.micro_batches < 1 || (task.batch > 0 && task.batch % degrees.data != 0)) {
        if (task.degrees) return bad_input("--batch: data parallel ranks must have the same number of sequences each");
        continue;
      }
      const Modelled modelled = model_profile(candidate.setup);
      const bool may_page =
          candidate.setup.offload_all && !candidate.setup.by_alpha() && !modelled.profile.tiers.empty();
      candidate.least_bytes = least_bytes(candidate.setup, modelled, false);
      candidate.pages = may_page && candidate.least_bytes > candidate.setup.hardware.memory;
      if (candidate.pages) candidate.least_bytes = least_bytes(candidate.setup, modelled, true);
      if (!task.degrees && candidate.least_bytes > candidate.setup.hardware.memory) {
        ++outcome.ruled_out;
        continue;
      }
      candidate.least_seconds = least_seconds(candidate.setup, modelled);
      candidates.push_back(std::move(candidate));
    }
  if (candidates.size() > task.most_planned) {
    std::ranges::stable_sort(candidates, {}, &Candidate::least_bytes);
    outcome.ruled_out += static_cast<int>(candidates.size() - task.most_planned);
    candidates.resize(task.most_planned);
  }
  // Among ways of about the same speed, plans the one most likely to fit first, since its time then rules out the
  // others.
  std::ranges::stable_sort(candidates, {}, [](const Candidate& candidate) {
    const double class_of_time = std::floor(std::log(candidate.least_seconds) / -std::log(worth));
    return std::tuple(candidate.pages, class_of_time, candidate.setup.degrees.data, candidate.least_bytes);
  });
  for (const Candidate& candidate : candidates) {
    if (outcome.best.size() == most && candidate.least_seconds >= worth * seconds_a_token(outcome.best.back())) {
      ++outcome.ruled_out;
      continue;
    }
    if (task.any_plan && !outcome.best.empty()) break;
    if (candidate.pages && !outcome.best.empty()) {
      ++outcome.ruled_out;
      continue;
    }
    ++outcome.tried;
    MEMO_TRY(Estimate found, estimate(candidate.setup, task.any_plan));
    Found entry{candidate.strategy->name, candidate.setup, std::move(found)};
    if (entry.estimate.fits) {
      outcome.best.push_back(std::move(entry));
      std::ranges::stable_sort(outcome.best, {}, seconds_a_token);
      if (outcome.best.size() > most) outcome.best.pop_back();
    } else if (!outcome.near || entry.estimate.reserved < outcome.near->estimate.reserved) {
      outcome.near = std::move(entry);
    }
  }
  return outcome;
}

}  // namespace

Result<Outcome> search(const Task& task, const std::vector<Strategy>& strategies, std::size_t most) {
  MEMO_TRY(Outcome outcome, search_all(task, strategies, most));
  if (strategies.size() == 1) return outcome;
  for (const Strategy& strategy : strategies) {
    if (std::ranges::count(outcome.best, strategy.name, &Found::strategy) > 0) continue;
    MEMO_TRY(Outcome alone, search_all(task, {strategy}, 1));
    outcome.tried += alone.tried;
    if (!alone.best.empty())
      outcome.others.push_back(std::move(alone.best.front()));
    else if (alone.near)
      outcome.others.push_back(*std::move(alone.near));
  }
  return outcome;
}

Result<Longest> longest_context(Task task, const Strategy& strategy, Tokens grain) {
  task.most_planned = 2;
  const auto best_at = [&](std::int64_t units, bool any) -> Result<std::vector<Found>> {
    task.context = grain * units, task.any_plan = any;
    MEMO_TRY(Outcome outcome, search(task, {strategy}, 1));
    return std::move(outcome.best);
  };
  const auto fits = [&](std::int64_t units) -> Result<bool> {
    MEMO_TRY(const std::vector<Found> found, best_at(units, true));
    return !found.empty();
  };
  std::int64_t good = 0, bad = 1;
  for (;; bad *= 2) {
    MEMO_TRY(const bool fit, fits(bad));
    if (!fit) break;
    good = bad;
    constexpr std::int64_t most = std::int64_t{1} << 40;  // tokens
    if (grain.value() * bad > most) break;
  }
  while (bad - good > std::max<std::int64_t>(1, good / 16)) {
    const std::int64_t middle = (good + bad) / 2;
    MEMO_TRY(const bool fit, fits(middle));
    (fit ? good : bad) = middle;
  }
  if (good == 0) return Longest{};
  MEMO_TRY(std::vector<Found> found, best_at(good, false));
  MEMO_CHECK(!found.empty(), "what fits is among all plans");
  return Longest{task.context, std::move(found.front())};
}

}  // namespace memo::estimate
