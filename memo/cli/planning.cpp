// Reads, measures and retries until a plan fits, and prints its placement.
#include "memo/cli/planning.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "memo/base/json.h"
#include "memo/base/text.h"
#include "memo/estimate/paper_profile.h"
#include "memo/estimate/run_sizes.h"
#include "memo/model/shape.h"
#include "memo/plan/for_job.h"
#include "memo/planner/planner.h"
#include "memo/planner/streaming.h"

namespace memo::cli {

void say(const std::string& line) {
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  std::fputs(((terminal ? "\r\x1b[K" : "") + line + "\n").c_str(), stderr);
}

Status check_strategy(const std::string& strategy) {
  const std::vector<std::string>& known = planner::strategies();
  if (std::ranges::find(known, strategy) != known.end()) return {};
  return bad_input(fmt::format("strategy '{}' is unknown{}; one of {}", strategy, did_you_mean(strategy, known),
                               fmt::join(known, ", ")));
}

Result<plan::Profile> profile_for(const job::Job& job, const std::optional<std::string>& file, const Measure& measure) {
  if (!file) return measure(job);
  MEMO_TRY(plan::Profile profile, plan::read_profile(*file));
  MEMO_CHECKED(plan::check_for_job(profile, job, *file + ": the profile"));
  return profile;
}

Result<plan::Plan> plan_for(const job::Job& job, const plan::Profile& profile, const std::string& strategy) {
  MEMO_CHECKED(check_strategy(strategy));
  return planner::make_plan(
      profile, {strategy, job.memory.device_limit, job.memory.slots, job.train.batch, job::early_updates(job.train)});
}

Result<ForHere> plan_on_paper(job::Job job, const std::string& hardware, const std::optional<std::string>& file) {
  MEMO_TRY(const std::vector<estimate::Hardware> table, estimate::known_hardware(file));
  MEMO_TRY(estimate::Hardware gpu, estimate::find_hardware(hardware, table));
  job = estimate::with_limit_of(std::move(job), gpu);
  return ForHere{std::move(job),
                 [gpu = std::move(gpu)](const job::Job& tried) { return estimate::paper_profile(tried, gpu); }};
}

namespace {

// The job with the sizes and the kernel that a profile was measured with.
job::Job with_sizes_of(job::Job job, const plan::Profile& profile) {
  job.train.block = profile.flow.block;
  job.train.head_groups = profile.flow.groups;
  job.train.attention = profile.attention;
  return job;
}

// Whether a plan on a GPU, where one head group is the default, spends so much on recomputation and waiting that a
// group for each key head, whose operands are smaller, may be faster.
bool loses(const plan::Plan& plan) {
  constexpr double worth_trying = 1.03;
  const plan::Prediction& p = plan.predicted;
  return p.step > p.step_lower_bound * worth_trying;
}

// Variants to try for a job whose plan does not fit, coarse to fine. They cost speed, and their sums have other bits.
std::vector<job::Job> finer(const job::Job& job, const plan::Profile& profile, std::int64_t key_heads) {
  constexpr Tokens least_block(128);
  const model::Dataflow& flow = profile.flow;
  std::vector<job::Job> result;
  job::Job next = with_sizes_of(job, profile);
  std::vector<std::string> kernels{profile.attention};
  if (job.train.attention == "auto")
    for (const plan::AttentionTime& other : profile.attention_measured)
      if (std::ranges::find(kernels, other.kernel) == kernels.end()) {
        kernels.push_back(next.train.attention = other.kernel);
        result.push_back(next);
      }
  next.train.attention = job.train.attention;
  if (job.train.head_groups == 0 && flow.groups < key_heads) {
    next.train.head_groups = static_cast<int>(key_heads);
    result.push_back(next);
  }
  while (job.train.block == Tokens(0) && next.train.block.value() / 2 >= least_block.value()) {
    next.train.block = Tokens(next.train.block.value() / 2);
    result.push_back(next);
  }
  return result;
}

}  // namespace

Result<plan::Plan> plan_job(const job::Job& job, const job::Job& first, const std::optional<std::string>& profile,
                            const std::string& strategy, const Measure& measure) {
  MEMO_TRY(const plan::Profile tried, profile_for(first, profile, measure));
  Result<plan::Plan> plan = plan_for(job, tried, strategy);
  const auto too_large = [&] { return !plan && plan.error().kind == ErrorKind::infeasible; };
  if (profile || (!plan && !too_large())) return plan;
  MEMO_TRY(const model::Shape shape, model::job_shape(job));
  if (plan) {
    const bool may_regroup = strategy == "memo" && job.train.head_groups == 0 && tried.flow.groups == 1 &&
                             tried.flow.context >= estimate::regroups_from;
    if (!may_regroup || !loses(*plan)) return plan;
    job::Job next = with_sizes_of(job, tried);
    next.train.head_groups = static_cast<int>(shape.kv_heads);
    MEMO_TRY(const plan::Profile measured, measure(next));
    Result<plan::Plan> other = plan_for(next, measured, strategy);
    return other && other->predicted.step < plan->predicted.step ? other : plan;
  }
  for (const job::Job& next : finer(job, tried, shape.kv_heads)) {
    say(fmt::format("nothing fits in memory.device_limit; trying blocks of {} in {} head groups, attention by {}",
                    next.train.block.value(), next.train.head_groups, next.train.attention));
    MEMO_TRY(const plan::Profile measured, measure(next));
    plan = plan_for(next, measured, strategy);
    if (!too_large()) break;
  }
  return plan;
}

namespace {

struct Counts {
  std::int64_t recomputed = 0, swapped = 0, kept = 0;
};

// Numbers of blocks over all layers by class, in the table's order.
std::vector<std::pair<std::string, Counts>> placement_table(const plan::Plan& plan) {
  IndexedVector<model::ClassIndex, std::pair<std::string, Counts>> table;
  for (const model::TensorClass& cls : plan.profile.flow.classes) table.emplace_back(cls.name, Counts{});
  for (const plan::ClassPlacement& placed : plan.placement) {
    Counts& counts = table[placed.cls].second;
    counts.recomputed += placed.recomputed;
    counts.swapped += placed.swapped;
    counts.kept += placed.kept;
  }
  std::erase_if(table,
                [](const auto& row) { return row.second.recomputed + row.second.swapped + row.second.kept == 0; });
  return table;
}

}  // namespace

std::string describe(const plan::Plan& plan) {
  const plan::Prediction& p = plan.predicted;
  const model::Dataflow& flow = plan.profile.flow;
  const double tokens = static_cast<double>(flow.context.value()) * plan.sequences;
  std::string text;
  const auto line = [&](const std::string& name, const std::string& value) {
    text += fmt::format("  {:<16} {}\n", name, value);
  };
  const Tokens tile = std::min(plan.profile.loss_tile, flow.block);
  text += fmt::format("strategy {}: {}, context {} in {} blocks of {}, {} head group(s), attention by {}{}\n",
                      plan.strategy, plan.profile.model, flow.context.value(), flow.blocks(), flow.block.value(),
                      flow.groups, plan.profile.attention,
                      tile > Tokens(0) ? fmt::format(", loss tiles of {}", tile.value()) : "");
  line("device peak", fmt::format("{} (at least {} for these lifetimes{})", format_bytes(p.device_peak),
                                  format_bytes(p.device_lower_bound),
                                  plan.device_limit > Bytes(0) ? ", limit " + format_bytes(plan.device_limit) : ""));
  for (std::size_t t = 0; t < plan.profile.tiers.size(); ++t)
    line(plan.profile.tiers[t].name + " tier",
         fmt::format("{}; {} out and {} in a step", format_bytes(plan.program.tier_bytes[t]), format_bytes(p.bytes_out),
                     format_bytes(p.bytes_in)));
  line("step",
       fmt::format("{} ({} without recomputation and stalls), stalls {}, {:.0f} tokens/s", format_seconds(p.step),
                   format_seconds(p.step_lower_bound), format_seconds(p.stall), tokens / p.step.value()));
  line("placement gap", fmt::format("{:.2f} %", 100 * p.placement_gap));
  const bool is_streamed = std::ranges::any_of(plan.placement, &plan::ClassPlacement::streamed);
  if (is_streamed)
    line("streamed", fmt::format("what is swapped leaves after each pass; the least peak grows by {} bytes a token",
                                 planner::core_bytes_per_token(flow).value()));
  if (!plan.program.on_tier.empty()) {
    Bytes state;
    std::set<model::LayerIndex> layers;
    for (const plan::OnTier& it : plan.program.on_tier) {
      state += plan.program.tensors[it.tensor].bytes;
      layers.insert(plan.program.tensors[it.tensor].layer);
    }
    line("host updates",
         fmt::format("{} of {} layers, whose {} of optimizer state stay on the {} tier", layers.size(), flow.layers,
                     format_bytes(state), plan.profile.tiers[at(plan.program.on_tier.front().tier)].name));
  }
  if (plan.considered.size() > 1) {
    for (std::size_t i = 0; i < plan.considered.size(); ++i) {
      const plan::Considered& c = plan.considered[i];
      const std::string what = c.step > Seconds(0) ? format_seconds(c.step) + " in " : std::string("does not fit: ");
      line(i == 0 ? "considered" : "", fmt::format("{:<26} {}{}", c.name, what, format_bytes(c.device_peak)));
    }
  }
  text += fmt::format("  {:<16} {:>10} {:>10} {:>10}   (blocks, all layers; of parameters: layers)\n", "class",
                      "recomputed", "swapped", "kept");
  for (const auto& [name, counts] : placement_table(plan))
    text += fmt::format("  {:<16} {:>10} {:>10} {:>10}\n", name, counts.recomputed, counts.swapped, counts.kept);
  return text;
}

std::string plan_json_line(const plan::Plan& plan) {
  const plan::Prediction& p = plan.predicted;
  nlohmann::ordered_json placement = nlohmann::ordered_json::object();
  for (const auto& [name, counts] : placement_table(plan))
    placement[name] = {{"recomputed", counts.recomputed}, {"swapped", counts.swapped}, {"kept", counts.kept}};
  nlohmann::ordered_json tiers = nlohmann::ordered_json::object();
  for (std::size_t t = 0; t < plan.profile.tiers.size(); ++t)
    tiers[plan.profile.tiers[t].name] = plan.program.tier_bytes[t].value();
  nlohmann::ordered_json considered = nlohmann::ordered_json::array();
  for (const plan::Considered& c : plan.considered)
    considered.push_back(
        {{"name", c.name}, {"device_peak_bytes", c.device_peak.value()}, {"step_seconds", c.step.value()}});
  const nlohmann::ordered_json object{
      {"strategy", plan.strategy},
      {"context", plan.profile.flow.context.value()},
      {"block", plan.profile.flow.block.value()},
      {"head_groups", plan.profile.flow.groups},
      {"attention", plan.profile.attention},
      {"loss_tile", plan.profile.loss_tile.value()},
      {"slots", plan.slots},
      {"sequences", plan.sequences},
      {"device_limit_bytes", plan.device_limit.value()},
      {"device_peak_bytes", p.device_peak.value()},
      {"device_lower_bound_bytes", p.device_lower_bound.value()},
      {"tier_bytes", tiers},
      {"step_seconds", p.step.value()},
      {"step_lower_bound_seconds", p.step_lower_bound.value()},
      {"stall_seconds", p.stall.value()},
      {"tokens_per_second", static_cast<double>(plan.profile.flow.context.value()) * plan.sequences / p.step.value()},
      {"bytes_out", p.bytes_out.value()},
      {"bytes_in", p.bytes_in.value()},
      {"placement_gap", p.placement_gap},
      {"placement", placement},
      {"considered", considered}};
  return json_text(object);
}

}  // namespace memo::cli
