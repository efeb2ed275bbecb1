// Collects what the pictures and tables of the page show.
#include "memo/report/page_data.h"

#include <algorithm>
#include <cmath>

#include "memo/base/index.h"
#include "memo/report/columns.h"
#include "memo/report/occupancy.h"
#include "memo/report/replay.h"
#include "memo/report/stalls.h"

namespace memo::report {
namespace {

using nlohmann::ordered_json;

std::int64_t number(std::int64_t value) { return value; }
template <class Tag>
std::int64_t number(Index<Tag> value) {
  return value.value();
}

template <class Rows, class Get>
std::vector<std::int64_t> column(const Rows& rows, Get get) {
  std::vector<std::int64_t> values;
  values.reserve(rows.size());
  for (const auto& row : rows) values.push_back(number(get(row)));
  return values;
}

void add_program(Columns& columns, const plan::Program& program) {
  const auto add = [&](const char* name, const auto& rows, auto get) { columns.add(name, column(rows, get)); };
  using plan::Call, plan::Tensor, plan::Residency, plan::Copy;
  add("call.segment", program.calls, [](const Call& c) { return c.segment; });
  add("call.phase", program.calls, [](const Call& c) { return static_cast<int>(c.phase); });
  add("call.layer", program.calls, [](const Call& c) { return c.layer; });
  add("call.block", program.calls, [](const Call& c) { return c.block; });
  add("call.group", program.calls, [](const Call& c) { return c.group; });
  add("call.workspace", program.calls, [](const Call& c) { return c.workspace.value(); });
  add("call.transients", program.calls, [&](const Call& c) { return program.transients[c.trace].bytes.value(); });
  add("tensor.class", program.tensors, [](const Tensor& t) { return t.cls; });
  add("tensor.layer", program.tensors, [](const Tensor& t) { return t.layer; });
  add("tensor.block", program.tensors, [](const Tensor& t) { return t.block; });
  add("tensor.group", program.tensors, [](const Tensor& t) { return t.group; });
  add("tensor.bytes", program.tensors, [](const Tensor& t) { return t.bytes.value(); });
  add("residency.tensor", program.residencies, [](const Residency& r) { return r.tensor; });
  add("residency.begin", program.residencies, [](const Residency& r) { return r.begin; });
  add("residency.boundaries", program.residencies, [](const Residency& r) { return r.end - r.begin; });
  add("residency.offset", program.residencies, [](const Residency& r) { return r.offset.value(); });
  add("residency.fetched", program.residencies, [](const Residency& r) { return r.origin == plan::Origin::fetched; });
  add("copy.residency", program.copies, [](const Copy& c) { return c.residency; });
  add("copy.direction", program.copies, [](const Copy& c) { return static_cast<int>(c.direction); });
  add("copy.tier", program.copies, [](const Copy& c) { return c.tier; });
  add("copy.at", program.copies, [](const Copy& c) { return c.at; });
  add("copy.before", program.copies, [](const Copy& c) { return c.before; });
}

// Each span as the pause before it and its length, in ticks, since a prediction repeats the same few numbers.
void add_spans(Columns& columns, const std::string& name, const std::vector<sim::Interval>& spans, double tick) {
  std::vector<std::int64_t> index, pause, length;
  std::int64_t before = 0;
  for (const sim::Interval& span : spans) {
    const std::int64_t start = std::llround(span.start / tick), end = std::llround(span.end / tick);
    index.push_back(span.index);
    pause.push_back(start - before);
    length.push_back(end - start);
    before = end;
  }
  columns.add(name + ".index", index);
  columns.add(name + ".pause", pause);
  columns.add(name + ".length", length);
}

ordered_json timeline_json(const plan::Program& program, const sim::Timeline& timeline, double tick) {
  Columns columns;
  add_spans(columns, "calls", timeline.calls, tick);
  add_spans(columns, "out", timeline.copies_out, tick);
  add_spans(columns, "in", timeline.copies_in, tick);
  const std::vector<Stall> waits = stalls(program, timeline);
  columns.add("stall.boundary", column(waits, [](const Stall& s) { return s.boundary; }));
  columns.add("stall.copy", column(waits, [](const Stall& s) { return s.copy; }));
  columns.add("stall.length", column(waits, [&](const Stall& s) { return std::llround(s.seconds.value() / tick); }));
  ordered_json by_class = ordered_json::array();
  for (const StallsOfClass& sum : stalls_by_class(program, waits))
    by_class.push_back({{"class", sum.cls.value()},
                        {"direction", static_cast<int>(sum.direction)},
                        {"count", sum.count},
                        {"seconds", sum.seconds.value()},
                        {"longest", sum.longest.value()}});
  return {{"tick", tick},
          {"step", timeline.step.value()},
          {"stall", timeline.stall.value()},
          {"stalls", by_class},
          {"columns", columns.json()}};
}

ordered_json classes_json(const plan::Plan& plan, const Occupancy& live) {
  const model::Dataflow& flow = plan.profile.flow;
  ordered_json list = ordered_json::array();
  for (const model::ClassIndex c : flow.classes.indices()) {
    const auto backward_writes = [&](const model::Segment& s) {
      return std::ranges::any_of(s.backward.writes, [&](const model::Use& use) { return use.cls == c; });
    };
    std::int64_t recomputed = 0, swapped = 0, kept = 0;
    for (const plan::ClassPlacement& p : plan.placement)
      if (p.cls == c) recomputed += p.recomputed, swapped += p.swapped, kept += p.kept;
    list.push_back({{"name", flow.classes[c].name},
                    {"gradient", std::ranges::any_of(flow.segments, backward_writes)},
                    {"persistent", flow.classes[c].persistent()},
                    {"row", flow.classes[c].row.value()},
                    {"recomputed", recomputed},
                    {"swapped", swapped},
                    {"kept", kept},
                    {"at_peak", live.peak_by_class[c].value()}});
  }
  return list;
}

ordered_json fixed_json(const plan::Plan& plan) {
  ordered_json list = ordered_json::array();
  for (std::size_t i = 0; i < plan.profile.fixed.size(); ++i)
    list.push_back({{"name", plan.profile.fixed[i].name},
                    {"offset", plan.program.fixed[i].offset.value()},
                    {"bytes", plan.program.fixed[i].bytes.value()}});
  return list;
}

ordered_json tiers_json(const plan::Plan& plan, const Occupancy& live) {
  ordered_json list = ordered_json::array();
  for (std::size_t t = 0; t < plan.profile.tiers.size(); ++t) {
    const plan::Tier& tier = plan.profile.tiers[t];
    list.push_back({{"name", tier.name},
                    {"capacity", tier.capacity.value()},
                    {"planned", plan.program.tier_bytes[t].value()},
                    {"peak", std::ranges::max(live.tiers[t]).value()},
                    {"write", tier.write.value()},
                    {"read", tier.read.value()}});
  }
  return list;
}

ordered_json fragmentation_json(const plan::Plan& plan, const Occupancy& live) {
  const Replay free_running = replay(plan, Bytes(0));
  ordered_json growth = ordered_json::array();
  for (const Replay::Growth& g : free_running.growth) growth.push_back({g.boundary.value(), g.reserved.value()});
  ordered_json object{{"lower_bound", live.device[live.peak].value()},
                      {"planned", plan.program.arena.value()},
                      {"allocated", free_running.allocated.value()},
                      {"reserved", free_running.reserved.value()},
                      {"growth", growth},
                      {"failed_at", -1}};
  if (plan.device_limit > Bytes(0) && free_running.reserved > plan.device_limit)
    object["failed_at"] = replay(plan, plan.device_limit).failed_at.value();
  return object;
}

ordered_json predicted_json(const Subject& subject) {
  const plan::Prediction& p = subject.plan.predicted;
  return {{"peak", subject.plan.program.arena.value()},
          {"step", subject.predicted.step.value()},
          {"stall", subject.predicted.stall.value()},
          {"step_lower_bound", p.step_lower_bound.value()},
          {"bytes_out", subject.predicted.bytes_out.value()},
          {"bytes_in", subject.predicted.bytes_in.value()},
          {"placement_gap", p.placement_gap}};
}

ordered_json measured_json(const Measured& m) {
  return {{"peak", m.device_peak.value()},
          {"step", m.step.value()},
          {"stall", m.stall.value()},
          {"bytes_out", m.bytes_out.value()},
          {"bytes_in", m.bytes_in.value()},
          {"rss", m.process_peak_rss.value()},
          {"tokens_per_second", m.tokens_per_second},
          {"loss_digest", m.loss_digest},
          {"departures", m.departures},
          {"first_departure", m.first_departure}};
}

ordered_json steps_json(const std::vector<Step>& steps) {
  ordered_json rows = ordered_json::array();
  for (const Step& s : steps)
    rows.push_back({s.step, s.loss, s.gradient_norm, s.lr, s.seconds.value(), s.stall.value()});
  return rows;
}

}  // namespace

ordered_json page_data(const Subject& subject) {
  constexpr double microsecond = 1e-6;
  const plan::Plan& plan = subject.plan;
  const model::Dataflow& flow = plan.profile.flow;
  const Occupancy live = occupancy(plan);
  Columns program;
  add_program(program, plan.program);
  ordered_json segments = ordered_json::array();
  for (const model::SegmentIndex i : flow.segments.indices()) {
    const model::Segment& s = flow.segments[i];
    segments.push_back({{"name", s.name}, {"core", s.stage == model::Stage::core}, {"layered", flow.each_layer(i)}});
  }
  ordered_json object{
      {"name", subject.name},
      {"run", subject.is_run()},
      {"strategy", plan.strategy},
      {"model", plan.profile.model},
      {"device", plan.profile.device},
      {"context", flow.context.value()},
      {"block", flow.block.value()},
      {"blocks", flow.blocks()},
      {"layers", flow.layers},
      {"groups", flow.groups},
      {"limit", plan.device_limit.value()},
      {"predicted", predicted_json(subject)},
      {"measured", nullptr},
      {"classes", classes_json(plan, live)},
      {"segments", segments},
      {"fixed", fixed_json(plan)},
      {"transients_at_peak", live.peak_transients.value()},
      {"peak_at", live.peak.value()},
      {"tiers", tiers_json(plan, live)},
      {"fragmentation", fragmentation_json(plan, live)},
      {"steps", steps_json(subject.steps)},
      {"loss_by_position", subject.loss_by_position.losses},
      {"loss_context", subject.loss_by_position.context},
      {"program", program.json()},
      {"timelines",
       {{"predicted", timeline_json(plan.program, subject.predicted, microsecond / 10)}, {"measured", nullptr}}}};
  if (subject.measured) object["measured"] = measured_json(*subject.measured);
  if (subject.timeline) object["timelines"]["measured"] = timeline_json(plan.program, *subject.timeline, microsecond);
  return object;
}

}  // namespace memo::report
