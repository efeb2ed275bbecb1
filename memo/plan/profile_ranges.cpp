// Checks the ranges of all numbers in a profile, so that later code can index, add and multiply without checks.
#include <algorithm>
#include <cmath>
#include <set>

#include "memo/plan/ranges.h"

namespace memo::plan {
namespace {

using model::Dataflow;
using model::Segment;
using model::Side;
using model::Stage;
using model::TensorClass;
using model::Use;

bool printable(const std::string& name) {
  return !name.empty() && std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 32 || c == 127; });
}

template <class Items>
void check_names(const Items& items, const char* what, Failures& failures) {
  std::set<std::string> seen;
  int i = 0;
  for (const auto& item : items) {
    if (!printable(item.name))
      failures.add("{} {} has an empty name or one with control characters", what, i);
    else if (!seen.insert(item.name).second)
      failures.add("{} {}: the name '{}' is taken", what, i, item.name);
    ++i;
  }
}

void check_sizes(const Dataflow& flow, Failures& failures) {
  constexpr std::int64_t most_tokens = std::int64_t{1} << 40;
  constexpr std::int64_t most_blocks = std::int64_t{1} << 24;
  if (flow.layers < 1 || flow.layers > 65535) failures.add("{} layers; 1 to 65535 are possible", flow.layers);
  if (flow.groups < 1 || flow.groups > 4096) failures.add("{} head groups; 1 to 4096 are possible", flow.groups);
  if (flow.classes.size() > 4096) failures.add("{} tensor classes; up to 4096 are possible", flow.classes.size());
  if (flow.segments.size() > 4096) failures.add("{} segments; up to 4096 are possible", flow.segments.size());
  if (!flow.kinds.empty() && flow.kinds.end_index() != LayerIndex(flow.layers))
    failures.add("{} kinds of layers for {} layers", flow.kinds.size(), flow.layers);
  for (const int kind : flow.kinds)
    if (kind < 0 || kind >= 4096) failures.add("a layer of kind {}; 0 to 4095 are possible", kind);
  if (flow.forward_layers < 0 || flow.forward_layers > flow.layers || (flow.forward_layers > 0 && !flow.layers_alone()))
    failures.add("{} layers without a backward side, of {}", flow.forward_layers, flow.layers);
  for (const Segment& segment : flow.segments)
    if (segment.kind < -1 || segment.kind >= 4096 || (segment.kind >= 0 && flow.kinds.empty()) ||
        (segment.kind >= 0 && segment.stage != Stage::before && segment.stage != Stage::after))
      failures.add("segment {} is of kind {} of layers", segment.name, segment.kind);
  const std::int64_t context = flow.context.value(), block = flow.block.value();
  if (context < 1 || context > most_tokens)
    failures.add("a context of {} tokens; 1 to 2^40 are possible", context);
  else if (block < 1 || block > most_tokens)
    failures.add("a block of {} tokens; 1 to 2^40 are possible", block);
  else if ((context - 1) / block >= most_blocks)
    failures.add("{} tokens in blocks of {} are more than 2^24 blocks", context, block);
  else
    for (const TensorClass& c : flow.classes)
      if (c.layer_bytes != Bytes(0)) {
        if (!in_bytes(c.layer_bytes) || c.row != Bytes(0) || c.grouped || c.sequence)
          failures.add("class {}: {} bytes a layer are out of range, or it has rows too", c.name,
                       c.layer_bytes.value());
      } else if (c.row < Bytes(1) || c.row.value() > max_bytes / context)
        failures.add("class {}: a row of {} bytes is out of range for {} tokens", c.name, c.row.value(), context);
}

void check_side(const Dataflow& flow, const Segment& segment, const char* phase, const Side& side, Failures& failures) {
  const auto check = [&](const Use& use, const char* verb) {
    if (!use.cls.within(flow.classes.size())) {
      failures.add("segment {} {} {} class {} of {}", segment.name, phase, verb, use.cls, flow.classes.size());
      return;
    }
    const TensorClass& cls = flow.classes[use.cls];
    if (use.layer_shift < -65535 || use.layer_shift > 65535)
      failures.add("segment {} {} {} {} with a layer shift of {}", segment.name, phase, verb, cls.name,
                   use.layer_shift);
    if (segment.stage == Stage::optimizer || segment.stage == Stage::wait || segment.stage == Stage::host_update)
      failures.add("segment {} {} {} {}, but optimizer, host_update and wait have no operands", segment.name, phase,
                   verb, cls.name);
    else if (cls.persistent() &&
             (use.layer_shift != 0 || use.whole_sequence || use.every_group || segment.stage == Stage::core))
      failures.add("segment {} {} {} {} in another way than that of its own layer", segment.name, phase, verb,
                   cls.name);
    else if (segment.stage == Stage::update && !cls.persistent())
      failures.add("segment {} {} {} {}, but an update has persistent operands only", segment.name, phase, verb,
                   cls.name);
    else if (segment.stage == Stage::core && !use.whole_sequence)
      failures.add("segment {} {} {} a block of {}, but it runs over the whole sequence", segment.name, phase, verb,
                   cls.name);
    else if (segment.stage != Stage::core && cls.grouped && !use.every_group)
      failures.add("segment {} {} {} one group of {}, but it runs over all groups", segment.name, phase, verb,
                   cls.name);
  };
  for (const Use& use : side.reads) check(use, "reads");
  for (const Use& use : side.writes) check(use, "writes");
}

void check_request(const Dataflow& flow, const Trace& trace, const std::string& where, const Request& request,
                   Failures& failures) {
  if (!in_bytes(request.bytes)) failures.add("{} has {} bytes", where, request.bytes.value());
  if (request.born < 0) failures.add("{} is born at event {}", where, request.born);
  if (request.group < 0 || request.group >= flow.groups)
    failures.add("{} belongs to group {} of {}", where, request.group, flow.groups);
  if (request.cls != ClassIndex::none() && !request.cls.within(flow.classes.size())) {
    failures.add("{} holds class {} of {}", where, request.cls, flow.classes.size());
  } else if (!request.cls.exists()) {
    if (request.dies <= request.born)
      failures.add("{} dies at event {}, not after its birth at {}", where, request.dies, request.born);
  } else {
    const Segment& segment = flow.segments[trace.segment];
    const Side& side = trace.backward ? segment.backward : segment.forward;
    const TensorClass& cls = flow.classes[request.cls];
    if (std::none_of(side.writes.begin(), side.writes.end(), [&](const Use& u) { return u.cls == request.cls; }))
      failures.add("{} holds {}, which the segment does not write", where, cls.name);
    if (cls.persistent())
      failures.add("{} holds {}, which is persistent", where, cls.name);
    else if (request.bytes > cls.row * trace.tokens.value())
      failures.add("{} holds {} in {} bytes, the tensor has {}", where, cls.name, request.bytes.value(),
                   (cls.row * trace.tokens.value()).value());
  }
}

std::string name_of_trace(const Dataflow& flow, const Trace& trace) {
  return fmt::format("the trace of {} {} at {} tokens", flow.segments[trace.segment].name,
                     trace.backward ? "backward" : "forward", trace.tokens.value());
}

void check_traces(const Profile& profile, Failures& failures) {
  const Dataflow& flow = profile.flow;
  std::set<std::tuple<SegmentIndex, bool, Tokens>> seen;
  for (const TraceIndex i : profile.traces.indices()) {
    if (failures.full()) break;
    const Trace& trace = profile.traces[i];
    if (!trace.segment.within(flow.segments.size())) {
      failures.add("trace {} is of segment {} of {}", i, trace.segment, flow.segments.size());
      continue;
    }
    const std::string where = name_of_trace(flow, trace);
    if (trace.tokens < Tokens(0) || trace.tokens > flow.context) {
      failures.add("{}: more than the context or negative", where);
      continue;
    }
    if (!std::isfinite(trace.seconds.value()) || trace.seconds < Seconds(0))
      failures.add("{} takes {} seconds", where, trace.seconds.value());
    if (!seen.emplace(trace.segment, trace.backward, trace.tokens).second) failures.add("{} is there twice", where);
    for (std::size_t r = 0; r < trace.requests.size() && !failures.full(); ++r)
      check_request(flow, trace, fmt::format("{}: request {}", where, r), trace.requests[r], failures);
  }
  const auto need = [&](SegmentIndex segment, bool backward, Tokens tokens) {
    const bool any = flow.segments[segment].stage == Stage::optimizer;
    for (const Trace& t : profile.traces)
      if (t.segment == segment && t.backward == backward && (any || t.tokens == tokens)) return;
    failures.add("{} is missing", name_of_trace(flow, Trace{segment, backward, tokens, {}, {}}));
  };
  for (const SegmentIndex s : flow.segments.indices()) {
    if (failures.full()) break;
    const Segment& segment = flow.segments[s];
    for (const bool backward : {false, true}) {
      if (backward && !has_backward(segment)) continue;
      need(s, backward, over_blocks(segment.stage) ? flow.block_tokens(BlockIndex(0)) : flow.context);
      const Tokens last = flow.block_tokens(flow.last_block());
      if (over_blocks(segment.stage) && last != flow.block_tokens(BlockIndex(0))) need(s, backward, last);
    }
  }
}

void check_tier(const Tier& tier, Failures& failures) {
  if (!in_bytes(tier.capacity)) failures.add("tier {} has a capacity of {} bytes", tier.name, tier.capacity.value());
  for (const BytesPerSecond rate : {tier.write, tier.read, tier.write_with_read, tier.read_with_write})
    if (!std::isfinite(rate.value()) || rate.value() <= 0)
      failures.add("tier {} has a rate of {} bytes/s; rates are positive", tier.name, rate.value());
  if (!std::isfinite(tier.compute_slowdown) || tier.compute_slowdown <= 0)
    failures.add("tier {} slows compute by a factor of {}; the factor is positive", tier.name, tier.compute_slowdown);
  if (tier.alignment < 1 || copy_alignment % tier.alignment != 0)
    failures.add("tier {} has an alignment of {} bytes; divisors of {} are possible", tier.name, tier.alignment,
                 copy_alignment);
}

void check_measured(const Profile& profile, Failures& failures) {
  if (!profile.attention.empty() && !printable(profile.attention))
    failures.add("the attention kernel's name has control characters");
  for (const AttentionTime& m : profile.attention_measured) {
    if (!printable(m.kernel)) failures.add("a measured attention kernel's name is empty or has control characters");
    if (m.tokens < Tokens(1)) failures.add("attention was measured at {} tokens", m.tokens.value());
    for (const Seconds each : {m.forward, m.backward})
      if (!std::isfinite(each.value()) || each < Seconds(0)) failures.add("attention takes {} seconds", each.value());
  }
}

}  // namespace

void check_profile(const Profile& profile, Failures& failures) {
  const Dataflow& flow = profile.flow;
  check_names(flow.classes, "class", failures);
  check_names(flow.segments, "segment", failures);
  check_names(profile.fixed, "fixed memory", failures);
  check_names(profile.tiers, "tier", failures);
  check_sizes(flow, failures);
  if (!failures.lines().empty()) return;
  for (const Segment& segment : flow.segments) {
    check_side(flow, segment, "forward", segment.forward, failures);
    check_side(flow, segment, "backward", segment.backward, failures);
    if (segment.stage == Stage::host_update && !flow.find_segment(model::in_place_of(segment.role)).exists())
      failures.add("segment {} is of the host, but no update is there in whose place it is", segment.name);
  }
  check_traces(profile, failures);
  for (const Fixed& fixed : profile.fixed)
    if (!in_bytes(fixed.bytes)) failures.add("fixed memory {} has {} bytes", fixed.name, fixed.bytes.value());
  for (const Tier& tier : profile.tiers) check_tier(tier, failures);
  check_measured(profile, failures);
  if (profile.loss_tile < Tokens(0)) failures.add("a loss tile has {} tokens", profile.loss_tile.value());
  for (const model::BlockTime& block : profile.blocks_measured)
    if (block.block < Tokens(1) || !std::isfinite(block.per_token.value()) || block.per_token <= Seconds(0))
      failures.add("a block of {} tokens was measured to take {} seconds a token", block.block.value(),
                   block.per_token.value());
}

}  // namespace memo::plan
