// Reads and writes plan.json (docs/formats.md). Its tables, which are nearly all of it, are written without the
// library, a row a line.
#include <fmt/format.h>

#include "memo/base/json.h"
#include "memo/plan/json_table.h"
#include "memo/plan/profile_json.h"
#include "memo/plan/ranges.h"

namespace memo::plan {

template <Row<Call> T, class Field>
void each_column(T& row, Field&& field) {
  field("segment", row.segment);
  field("phase", row.phase);
  field("layer", row.layer);
  field("block", row.block);
  field("group", row.group);
  field("trace", row.trace);
  field("workspace", row.workspace);
}

template <Row<Tensor> T, class Field>
void each_column(T& row, Field&& field) {
  field("class", row.cls);
  field("layer", row.layer);
  field("block", row.block);
  field("group", row.group);
  field("bytes", row.bytes);
}

template <Row<Residency> T, class Field>
void each_column(T& row, Field&& field) {
  field("tensor", row.tensor);
  field("begin", row.begin);
  field("end", row.end);
  field("offset", row.offset);
  field("origin", row.origin);
}

template <Row<Copy> T, class Field>
void each_column(T& row, Field&& field) {
  field("residency", row.residency);
  field("direction", row.direction);
  field("tier", row.tier);
  field("tier_offset", row.tier_offset);
  field("at", row.at);
  field("before", row.before);
}

template <Row<OnTier> T, class Field>
void each_column(T& row, Field&& field) {
  field("tensor", row.tensor);
  field("tier", row.tier);
  field("tier_offset", row.tier_offset);
}

template <Row<Region> T, class Field>
void each_column(T& row, Field&& field) {
  field("offset", row.offset);
  field("bytes", row.bytes);
}

template <Row<ClassPlacement> T, class Field>
void each_column(T& row, Field&& field) {
  field("class", row.cls);
  field("layer", row.layer);
  field("recomputed", row.recomputed);
  field("swapped", row.swapped);
  field("kept", row.kept);
  field("tier", row.tier);
  field("streamed", row.streamed);
}

namespace {

using nlohmann::ordered_json;

constexpr const char* plan_format = "memo-plan";

ordered_json prediction_json(const Prediction& p) {
  return {{"device_peak_bytes", p.device_peak.value()},
          {"device_lower_bound_bytes", p.device_lower_bound.value()},
          {"step_seconds", p.step.value()},
          {"stall_seconds", p.stall.value()},
          {"step_lower_bound_seconds", p.step_lower_bound.value()},
          {"bytes_out", p.bytes_out.value()},
          {"bytes_in", p.bytes_in.value()},
          {"placement_gap", p.placement_gap}};
}

Prediction prediction_from(const JsonCursor& object) {
  object.only({"device_peak_bytes", "device_lower_bound_bytes", "step_seconds", "stall_seconds",
               "step_lower_bound_seconds", "bytes_out", "bytes_in", "placement_gap"});
  Prediction p;
  p.device_peak = object.at("device_peak_bytes").bytes();
  p.device_lower_bound = object.at("device_lower_bound_bytes").bytes();
  p.step = Seconds(object.at("step_seconds").number());
  p.stall = Seconds(object.at("stall_seconds").number());
  p.step_lower_bound = Seconds(object.at("step_lower_bound_seconds").number());
  p.bytes_out = object.at("bytes_out").bytes();
  p.bytes_in = object.at("bytes_in").bytes();
  p.placement_gap = object.at("placement_gap").number();
  return p;
}

ordered_json considered_json(const std::vector<Considered>& considered) {
  ordered_json list = ordered_json::array();
  for (const Considered& c : considered)
    list.push_back({{"name", c.name}, {"device_peak_bytes", c.device_peak.value()}, {"step_seconds", c.step.value()}});
  return list;
}

std::vector<Considered> considered_from(const JsonCursor& list) {
  std::vector<Considered> considered(list.size());
  for (std::size_t i = 0; i < considered.size() && !list.failed(); ++i) {
    const JsonCursor c = list.at(i);
    c.only({"name", "device_peak_bytes", "step_seconds"});
    considered[i] = {c.at("name").text(), c.at("device_peak_bytes").bytes(), Seconds(c.at("step_seconds").number())};
  }
  return considered;
}

void write_program(std::string& out, const Program& program) {
  const auto table = [&](const char* name, const auto& rows) {
    out += fmt::format(",\n\"{}\":", name);
    write_table(out, rows);
  };
  out += fmt::format("{{\"arena_bytes\":{}", program.arena.value());
  ordered_json transients = ordered_json::array(), tier_bytes = ordered_json::array();
  for (const Transients& t : program.transients)
    transients.push_back({{"bytes", t.bytes.value()}, {"offsets", t.offsets}});
  for (const Bytes bytes : program.tier_bytes) tier_bytes.push_back(bytes.value());
  out += fmt::format(",\n\"tier_bytes\":{},\n\"transients\":{}", json_text(tier_bytes), json_text(transients));
  table("fixed", program.fixed);
  table("calls", program.calls);
  table("tensors", program.tensors);
  table("residencies", program.residencies);
  table("copies", program.copies);
  if (!program.on_tier.empty()) table("on_tier", program.on_tier);
  out += "}";
}

Program program_from(const JsonCursor& object) {
  object.only(
      {"arena_bytes", "tier_bytes", "transients", "fixed", "calls", "tensors", "residencies", "copies", "on_tier"});
  Program program;
  program.arena = object.at("arena_bytes").bytes();
  const JsonCursor tier_bytes = object.at("tier_bytes"), transients = object.at("transients");
  for (std::size_t i = 0; i < tier_bytes.size() && !object.failed(); ++i)
    program.tier_bytes.push_back(tier_bytes.at(i).bytes());
  for (std::size_t i = 0; i < transients.size() && !object.failed(); ++i) {
    transients.at(i).only({"bytes", "offsets"});
    Transients layout{transients.at(i).at("bytes").bytes(), {}};
    const JsonCursor offsets = transients.at(i).at("offsets");
    for (std::size_t j = 0; j < offsets.size() && !object.failed(); ++j)
      layout.offsets.push_back(offsets.at(j).bytes().value());
    program.transients.push_back(std::move(layout));
  }
  program.fixed = read_table<Region>(object.at("fixed"));
  program.calls = read_table<Call>(object.at("calls"));
  program.tensors = read_table<Tensor>(object.at("tensors"));
  program.residencies = read_table<Residency>(object.at("residencies"));
  program.copies = read_table<Copy>(object.at("copies"));
  if (object.has("on_tier")) program.on_tier = read_table<OnTier>(object.at("on_tier"));
  return program;
}

Plan plan_from(const JsonCursor& document) {
  Plan plan;
  check_format(document, plan_format, plan_version, plan_version, "'memo plan'");
  document.only({"format", "version", "strategy", "device_limit_bytes", "slots", "sequences", "predicted", "considered",
                 "profile", "placement", "program"});
  plan.strategy = document.at("strategy").text();
  plan.device_limit = document.at("device_limit_bytes").bytes();
  plan.slots = document.at("slots").integer();
  plan.sequences = document.at("sequences").integer();
  plan.predicted = prediction_from(document.at("predicted"));
  plan.considered = considered_from(document.at("considered"));
  plan.profile = profile_from(document.at("profile"));
  plan.placement = read_table<ClassPlacement>(document.at("placement"));
  plan.program = program_from(document.at("program"));
  return plan;
}

}  // namespace

Result<Plan> read_plan(const Path& path) {
  MEMO_TRY(const nlohmann::json document, read_json(path));
  std::string failure;
  Plan plan = plan_from(JsonCursor(document, "", failure));
  if (!failure.empty()) return bad_input(fmt::format("{}: {}", path.string(), failure));
  Failures failures(1);
  check_structure(plan, failures);
  if (!failures.lines().empty()) return bad_input(fmt::format("{}: {}", path.string(), failures.lines().front()));
  return plan;
}

Status write_plan(const Plan& plan, const Path& path) {
  Failures failures(1);
  check_structure(plan, failures);
  if (!failures.lines().empty())
    return bad_input(fmt::format("{}: not written, the plan is wrong: {}", path.string(), failures.lines().front()));
  const ordered_json head{{"format", plan_format},
                          {"version", plan_version},
                          {"strategy", plan.strategy},
                          {"device_limit_bytes", plan.device_limit.value()},
                          {"slots", plan.slots},
                          {"sequences", plan.sequences},
                          {"predicted", prediction_json(plan.predicted)},
                          {"considered", considered_json(plan.considered)},
                          {"profile", profile_json(plan.profile)}};
  std::string out = json_text(head);
  out.back() = ',';  // the head's closing brace
  out += "\n\"placement\":";
  write_table(out, plan.placement);
  out += ",\n\"program\":";
  write_program(out, plan.program);
  out += "}\n";
  return replace_file(path, out, plan_kind);
}

}  // namespace memo::plan
