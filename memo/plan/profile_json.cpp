// Reads and writes profile.json (docs/formats.md).
#include "memo/plan/profile_json.h"

#include <fmt/format.h>

#include <array>

#include "memo/base/check.h"
#include "memo/base/json.h"
#include "memo/base/text.h"
#include "memo/plan/json_table.h"
#include "memo/plan/ranges.h"

namespace memo::plan {

template <Row<Request> T, class Field>
void each_column(T& row, Field&& field) {
  field("bytes", row.bytes);
  field("born", row.born);
  field("dies", row.dies);
  field("class", row.cls);
  field("group", row.group);
}

namespace {

using nlohmann::ordered_json;

constexpr const char* profile_format = "memo-profile";
constexpr std::array<const char*, 9> stage_names{"embedding", "before",    "core", "after",      "loss",
                                                 "update",    "optimizer", "wait", "host_update"};

ordered_json uses_json(const model::Dataflow& flow, const std::vector<model::Use>& uses) {
  ordered_json list = ordered_json::array();
  for (const model::Use& use : uses) {
    ordered_json object{{"class", flow.classes[use.cls].name}};
    if (use.layer_shift != 0) object["layer_shift"] = use.layer_shift;
    if (use.whole_sequence) object["whole_sequence"] = true;
    if (use.every_group) object["every_group"] = true;
    list.push_back(std::move(object));
  }
  return list;
}

ordered_json flow_json(const model::Dataflow& flow) {
  ordered_json classes = ordered_json::array(), segments = ordered_json::array();
  for (const model::TensorClass& c : flow.classes) {
    if (c.persistent())
      classes.push_back({{"name", c.name}, {"layer_bytes", c.layer_bytes.value()}});
    else
      classes.push_back(
          {{"name", c.name}, {"row_bytes", c.row.value()}, {"grouped", c.grouped}, {"sequence", c.sequence}});
  }
  const auto side = [&](const model::Side& s) {
    return ordered_json{{"reads", uses_json(flow, s.reads)}, {"writes", uses_json(flow, s.writes)}};
  };
  for (const model::Segment& s : flow.segments) {
    segments.push_back({{"name", s.name},
                        {"stage", stage_names[static_cast<std::size_t>(s.stage)]},
                        {"forward", side(s.forward)},
                        {"backward", side(s.backward)}});
    if (s.kind >= 0) segments.back()["kind"] = s.kind;
  }
  ordered_json object{{"layers", flow.layers},
                      {"groups", flow.groups},
                      {"context_tokens", flow.context.value()},
                      {"block_tokens", flow.block.value()},
                      {"classes", std::move(classes)},
                      {"segments", std::move(segments)}};
  if (!flow.kinds.empty()) object["kinds"] = flow.kinds;
  if (flow.forward_layers > 0) object["forward_layers"] = flow.forward_layers;
  return object;
}

std::vector<model::Use> uses_from(const JsonCursor& list,
                                  const IndexedVector<ClassIndex, model::TensorClass>& classes) {
  std::vector<model::Use> uses(list.size());
  for (std::size_t i = 0; i < uses.size() && !list.failed(); ++i) {
    const JsonCursor object = list.at(i);
    object.only({"class", "layer_shift", "whole_sequence", "every_group"});
    const std::string name = object.at("class").text();
    uses[i].cls = ClassIndex::none();
    for (const ClassIndex c : classes.indices())
      if (classes[c].name == name) uses[i].cls = c;
    if (!uses[i].cls.exists()) object.at("class").fail("is none of the names in flow.classes");
    if (object.has("layer_shift")) uses[i].layer_shift = object.at("layer_shift").integer();
    if (object.has("whole_sequence")) uses[i].whole_sequence = object.at("whole_sequence").flag();
    if (object.has("every_group")) uses[i].every_group = object.at("every_group").flag();
  }
  return uses;
}

model::Dataflow flow_from(const JsonCursor& object) {
  model::Dataflow flow;
  object.only({"layers", "groups", "context_tokens", "block_tokens", "classes", "segments", "kinds", "forward_layers"});
  flow.layers = object.at("layers").integer();
  flow.groups = object.at("groups").integer();
  flow.context = Tokens(object.at("context_tokens").bytes().value());
  flow.block = Tokens(object.at("block_tokens").bytes().value());
  const JsonCursor classes = object.at("classes"), segments = object.at("segments");
  for (std::size_t i = 0; i < classes.size() && !object.failed(); ++i) {
    const JsonCursor c = classes.at(i);
    if (c.has("layer_bytes")) {
      c.only({"name", "layer_bytes"});
      flow.classes.push_back({.name = c.at("name").text(), .row = {}, .layer_bytes = c.at("layer_bytes").bytes()});
      continue;
    }
    c.only({"name", "row_bytes", "grouped", "sequence"});
    flow.classes.push_back({.name = c.at("name").text(),
                            .row = c.at("row_bytes").bytes(),
                            .grouped = c.at("grouped").flag(),
                            .sequence = c.at("sequence").flag()});
  }
  if (object.has("forward_layers")) flow.forward_layers = object.at("forward_layers").integer();
  if (object.has("kinds"))
    for (std::size_t i = 0; i < object.at("kinds").size() && !object.failed(); ++i)
      flow.kinds.push_back(object.at("kinds").at(i).integer());
  const auto side = [&](const JsonCursor& s) {
    s.only({"reads", "writes"});
    return model::Side{uses_from(s.at("reads"), flow.classes), uses_from(s.at("writes"), flow.classes)};
  };
  for (std::size_t i = 0; i < segments.size() && !object.failed(); ++i) {
    const JsonCursor s = segments.at(i);
    s.only({"name", "stage", "forward", "backward", "kind"});
    const std::string stage = s.at("stage").text();
    const auto found = std::find(stage_names.begin(), stage_names.end(), stage);
    if (found == stage_names.end())
      s.at("stage").fail("is none of embedding, before, core, after, loss, update, optimizer, wait, host_update");
    flow.segments.push_back({.name = s.at("name").text(),
                             .stage = static_cast<model::Stage>(found - stage_names.begin()),
                             .forward = side(s.at("forward")),
                             .backward = side(s.at("backward")),
                             .kind = s.has("kind") ? s.at("kind").integer() : -1});
  }
  take_roles(flow);
  return flow;
}

Tier tier_from(const JsonCursor& t) {
  t.only({"name", "capacity_bytes", "write_bytes_per_second", "read_bytes_per_second",
          "write_with_read_bytes_per_second", "read_with_write_bytes_per_second", "compute_slowdown",
          "alignment_bytes"});
  const auto rate = [&](const char* key) { return BytesPerSecond(t.at(key).number()); };
  return {t.at("name").text(),
          t.at("capacity_bytes").bytes(),
          rate("write_bytes_per_second"),
          rate("read_bytes_per_second"),
          rate("write_with_read_bytes_per_second"),
          rate("read_with_write_bytes_per_second"),
          t.at("compute_slowdown").number(),
          t.at("alignment_bytes").bytes().value()};
}

ordered_json measured_json(const std::vector<AttentionTime>& measured) {
  ordered_json list = ordered_json::array();
  for (const AttentionTime& m : measured)
    list.push_back({{"kernel", m.kernel},
                    {"tokens", m.tokens.value()},
                    {"forward_seconds", m.forward.value()},
                    {"backward_seconds", m.backward.value()}});
  return list;
}

AttentionTime measured_from(const JsonCursor& m) {
  m.only({"kernel", "tokens", "forward_seconds", "backward_seconds"});
  return {m.at("kernel").text(), Tokens(m.at("tokens").bytes().value()), Seconds(m.at("forward_seconds").number()),
          Seconds(m.at("backward_seconds").number())};
}

// The only kernel that each kind of device had when profiles did not name it.
std::string attention_before_version_4(const std::string& device) {
  return device.starts_with("cpu") ? "cpu" : "flash2";
}

Trace trace_from(const JsonCursor& t, const model::Dataflow& flow) {
  t.only({"segment", "backward", "tokens", "seconds", "requests"});
  const std::string name = t.at("segment").text();
  Trace trace;
  trace.segment = SegmentIndex::none();
  for (const SegmentIndex s : flow.segments.indices())
    if (flow.segments[s].name == name) trace.segment = s;
  if (!trace.segment.exists()) t.at("segment").fail("is none of the names in flow.segments");
  trace.backward = t.at("backward").flag();
  trace.tokens = Tokens(t.at("tokens").bytes().value());
  trace.seconds = Seconds(t.at("seconds").number());
  trace.requests = read_table<Request>(t.at("requests"));
  return trace;
}

}  // namespace

int check_format(const JsonCursor& document, const std::string& format, int oldest, int newest,
                 const std::string& maker) {
  const std::string hint = fmt::format("; give it a file that {} wrote", maker);
  if (!document.has("format") || !document.at("format").value().is_string()) {
    document.fail(fmt::format("not a {} file{}", format, hint));
    return newest;
  }
  const std::string found = document.at("format").text();
  if (found != format) {
    document.fail(found == "memo-profile" || found == "memo-plan"
                      ? fmt::format("is a {} file, not a {} one{}", found, format, hint)
                      : fmt::format("not a {} file{}", format, hint));
    return newest;
  }
  const int number = document.at("version").integer();
  if (!document.failed() && (number < oldest || number > newest))
    document.fail(
        fmt::format("version {} of {}, this Memo reads version {}; make the file again with {}", number, format,
                    oldest == newest ? fmt::format("{}", newest) : fmt::format("{} to {}", oldest, newest), maker));
  return number;
}

ordered_json profile_json(const Profile& profile) {
  ordered_json traces = ordered_json::array(), fixed = ordered_json::array(), tiers = ordered_json::array();
  for (const Trace& t : profile.traces) {
    std::string requests;
    write_table(requests, t.requests);
    traces.push_back({{"segment", profile.flow.segments[t.segment].name},
                      {"backward", t.backward},
                      {"tokens", t.tokens.value()},
                      {"seconds", t.seconds.value()},
                      {"requests", ordered_json_of(requests)}});
  }
  ordered_json blocks = ordered_json::array();
  for (const model::BlockTime& b : profile.blocks_measured)
    blocks.push_back({{"block_tokens", b.block.value()}, {"seconds_per_token", b.per_token.value()}});
  for (const Fixed& f : profile.fixed) fixed.push_back({{"name", f.name}, {"bytes", f.bytes.value()}});
  for (const Tier& t : profile.tiers)
    tiers.push_back({{"name", t.name},
                     {"capacity_bytes", t.capacity.value()},
                     {"write_bytes_per_second", t.write.value()},
                     {"read_bytes_per_second", t.read.value()},
                     {"write_with_read_bytes_per_second", t.write_with_read.value()},
                     {"read_with_write_bytes_per_second", t.read_with_write.value()},
                     {"compute_slowdown", t.compute_slowdown},
                     {"alignment_bytes", t.alignment}});
  return {{"format", profile_format},
          {"version", profile_version},
          {"model", profile.model},
          {"device", profile.device},
          {"flow", flow_json(profile.flow)},
          {"traces", std::move(traces)},
          {"fixed", std::move(fixed)},
          {"tiers", std::move(tiers)},
          {"attention", profile.attention},
          {"attention_measured", measured_json(profile.attention_measured)},
          {"loss_tile_tokens", profile.loss_tile.value()},
          {"blocks_measured", std::move(blocks)}};
}

Profile profile_from(const JsonCursor& object) {
  Profile profile;
  const int version = check_format(object, profile_format, oldest_profile_version, profile_version, "'memo profile'");
  if (version >= 4)
    object.only({"format", "version", "model", "device", "flow", "traces", "fixed", "tiers", "attention",
                 "attention_measured", "loss_tile_tokens", "blocks_measured"});
  else
    object.only({"format", "version", "model", "device", "flow", "traces", "fixed", "tiers"});
  profile.model = object.at("model").text();
  profile.device = object.at("device").text();
  profile.flow = flow_from(object.at("flow"));
  const JsonCursor traces = object.at("traces"), fixed = object.at("fixed"), tiers = object.at("tiers");
  for (std::size_t i = 0; i < traces.size() && !object.failed(); ++i)
    profile.traces.push_back(trace_from(traces.at(i), profile.flow));
  for (std::size_t i = 0; i < fixed.size() && !object.failed(); ++i) {
    fixed.at(i).only({"name", "bytes"});
    profile.fixed.push_back({fixed.at(i).at("name").text(), fixed.at(i).at("bytes").bytes()});
  }
  for (std::size_t i = 0; i < tiers.size() && !object.failed(); ++i) profile.tiers.push_back(tier_from(tiers.at(i)));
  profile.attention = version < 4 ? attention_before_version_4(profile.device) : object.at("attention").text();
  if (version < 4) return profile;
  const JsonCursor measured = object.at("attention_measured");
  for (std::size_t i = 0; i < measured.size() && !object.failed(); ++i)
    profile.attention_measured.push_back(measured_from(measured.at(i)));
  profile.loss_tile = Tokens(object.at("loss_tile_tokens").bytes().value());
  const JsonCursor blocks = object.at("blocks_measured");
  for (std::size_t i = 0; i < blocks.size() && !object.failed(); ++i) {
    blocks.at(i).only({"block_tokens", "seconds_per_token"});
    profile.blocks_measured.push_back({Tokens(blocks.at(i).at("block_tokens").bytes().value()),
                                       Seconds(blocks.at(i).at("seconds_per_token").number())});
  }
  return profile;
}

TraceIndex Profile::trace_of(SegmentIndex segment, bool backward, Tokens tokens) const {
  // The optimizer runs once a step, for any number of tokens.
  const bool any = flow.segments[segment].stage == model::Stage::optimizer;
  for (const TraceIndex i : traces.indices())
    if (traces[i].segment == segment && traces[i].backward == backward && (any || traces[i].tokens == tokens)) return i;
  MEMO_CHECK(false, "the profile has a trace of every call");
}

Result<Profile> read_profile(const Path& path) {
  MEMO_TRY(const nlohmann::json document, read_json(path));
  std::string failure;
  Profile profile = profile_from(JsonCursor(document, "", failure));
  if (!failure.empty()) return bad_input(fmt::format("{}: {}", path.string(), failure));
  Failures failures(1);
  check_profile(profile, failures);
  if (!failures.lines().empty()) return bad_input(fmt::format("{}: {}", path.string(), failures.lines().front()));
  return profile;
}

Status write_profile(const Profile& profile, const Path& path) {
  Failures failures(1);
  check_profile(profile, failures);
  if (!failures.lines().empty())
    return bad_input(fmt::format("{}: not written, the profile is wrong: {}", path.string(), failures.lines().front()));
  return replace_file(path, json_text(profile_json(profile), 1) + "\n", profile_kind);
}

}  // namespace memo::plan
