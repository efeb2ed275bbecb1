// Checks for overlaps: in the arena, of rectangles of boundaries by addresses; in a workspace, of rectangles of events
// by offsets.
#include <algorithm>
#include <map>

#include "memo/check/parts.h"

namespace memo::check {

// Sweeps over time and keeps live rectangles ordered by address. Live rectangles do not overlap, so a new one can only
// overlap its two neighbours. A new one that overlaps is reported and left out.
void find_overlaps(const std::vector<Rectangle>& rectangles, const std::function<bool(int, int)>& found) {
  struct Event {
    int time;
    bool begins;  // ends come first: half-open intervals
    int index;
  };
  std::vector<Event> events;
  events.reserve(2 * rectangles.size());
  for (int i = 0; i < static_cast<int>(rectangles.size()); ++i) {
    const Rectangle& r = rectangles[at(i)];
    if (r.low >= r.high || r.begin >= r.end) continue;
    events.push_back({r.begin, true, i});
    events.push_back({r.end, false, i});
  }
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    return std::tuple(a.time, a.begins, a.index) < std::tuple(b.time, b.begins, b.index);
  });
  std::map<std::int64_t, int> alive;  // low address -> rectangle
  for (const Event& event : events) {
    const Rectangle& r = rectangles[at(event.index)];
    if (!event.begins) {
      const auto gone = alive.find(r.low);
      if (gone != alive.end() && gone->second == event.index) alive.erase(gone);
      continue;
    }
    const auto above = alive.lower_bound(r.low);
    int other = -1;
    if (above != alive.end() && above->first < r.high) other = above->second;
    if (above != alive.begin()) {
      const int below = std::prev(above)->second;
      if (rectangles[at(below)].high > r.low) other = below;
    }
    if (other < 0)
      alive.emplace_hint(above, r.low, event.index);
    else if (!found(other, event.index))
      return;
  }
}

namespace {

void check_transients(const Plan& plan, TraceIndex trace_index, Failures& failures) {
  const Trace& trace = plan.profile.traces[trace_index];
  const Transients& layout = plan.program.transients[trace_index];
  const std::string where =
      fmt::format("transients of {} {} at {} tokens", plan.profile.flow.segments[trace.segment].name,
                  trace.backward ? "backward" : "forward", trace.tokens.value());
  if (layout.offsets.size() != trace.requests.size()) {
    failures.add("{}: {} offsets for {} requests", where, layout.offsets.size(), trace.requests.size());
    return;
  }
  std::vector<Rectangle> rectangles(trace.requests.size());
  for (std::size_t i = 0; i < rectangles.size() && !failures.full(); ++i) {
    const Request& request = trace.requests[i];
    const std::int64_t offset = layout.offsets[i];
    if (request.cls.exists()) {
      if (offset != -1)
        failures.add("{}: request {} holds {} and has offset {} instead of -1", where, i,
                     plan.profile.flow.classes[request.cls].name, offset);
    } else if (offset < 0 || offset % 64 != 0) {
      failures.add("{}: request {} has offset {}, not a multiple of 64", where, i, offset);
    } else if (offset > layout.bytes.value() || request.bytes.value() > layout.bytes.value() - offset) {
      failures.add("{}: request {} of {} bytes at {} leaves the workspace of {} bytes", where, i, request.bytes.value(),
                   offset, layout.bytes.value());
    } else {
      rectangles[i] = {request.born, request.dies, offset, offset + request.bytes.value()};
    }
  }
  find_overlaps(rectangles, [&](int a, int b) {
    failures.add("{}: requests {} and {} overlap", where, a, b);
    return !failures.full();
  });
}

// All rectangles in the arena: residencies, then workspaces, then fixed regions.
class Arena {
 public:
  explicit Arena(const Plan& plan) : plan_(plan), program_(plan.program) {
    const int boundaries = program_.calls.end_index().value();
    rectangles_.reserve(program_.residencies.size() + program_.calls.size() + program_.fixed.size());
    // Copies move whole units: a residency with a copy owns its last unit in full.
    IndexedVector<ResidencyIndex, std::int64_t> unit(program_.residencies.size(), 1);
    for (const Copy& copy : program_.copies) unit[copy.residency] = copy_alignment;
    for (const ResidencyIndex i : program_.residencies.indices()) {
      const Residency& r = program_.residencies[i];
      const Bytes bytes = program_.tensors[r.tensor].bytes;
      rectangles_.push_back(
          {r.begin.value(), r.end.value(), r.offset.value(), (r.offset + round_up(bytes, unit[i])).value()});
    }
    for (const CallIndex k : program_.calls.indices()) {
      const Call& call = program_.calls[k];
      const Bytes bytes = program_.transients[call.trace].bytes;
      rectangles_.push_back({k.value(), k.value() + 1, call.workspace.value(), (call.workspace + bytes).value()});
    }
    for (const Region& region : program_.fixed)
      rectangles_.push_back(
          {0, std::max(boundaries, 1), region.offset.value(), (region.offset + region.bytes).value()});
  }

  void check(Failures& failures) const {
    for (int i = 0; i < static_cast<int>(rectangles_.size()) && !failures.full(); ++i) {
      const Rectangle& r = rectangles_[at(i)];
      if (r.low < r.high && r.high > program_.arena.value())
        failures.add("{} leaves the arena of {} bytes", name(i), program_.arena.value());
    }
    find_overlaps(rectangles_, [&](int a, int b) {
      const int boundary = std::max(rectangles_[at(a)].begin, rectangles_[at(b)].begin);
      failures.add("{} and {} overlap at boundary {}", name(a), name(b), boundary);
      return !failures.full();
    });
  }

 private:
  [[nodiscard]] std::string name(int i) const {
    const auto residencies = static_cast<int>(program_.residencies.size());
    const auto calls = static_cast<int>(program_.calls.size());
    const Rectangle& r = rectangles_[at(i)];
    std::string what;
    if (i < residencies)
      what = name_of_tensor(plan_, program_.residencies[ResidencyIndex(i)].tensor);
    else if (i < residencies + calls)
      what = "the workspace of " + name_of_call(plan_, CallIndex(i - residencies));
    else
      what = "fixed memory " + plan_.profile.fixed[at(i - residencies - calls)].name;
    return fmt::format("{} (bytes {} to {}, boundaries {} to {})", what, r.low, r.high, r.begin, r.end);
  }

  const Plan& plan_;
  const Program& program_;
  std::vector<Rectangle> rectangles_;
};

}  // namespace

void check_space(const Plan& plan, Failures& failures) {
  const Program& program = plan.program;
  for (const TraceIndex t : program.transients.indices())
    if (!failures.full()) check_transients(plan, t, failures);
  for (const CallIndex k : program.calls.indices()) {
    const Call& call = program.calls[k];
    if (program.transients[call.trace].bytes > Bytes(0) && call.workspace.value() % 64 != 0)
      failures.add("{}: its workspace at {} is not at a multiple of 64", name_of_call(plan, k), call.workspace.value());
  }
  for (std::size_t i = 0; i < program.fixed.size(); ++i)
    if (program.fixed[i].bytes < plan.profile.fixed[i].bytes)
      failures.add("fixed memory {} needs {} bytes, its region has {}", plan.profile.fixed[i].name,
                   plan.profile.fixed[i].bytes.value(), program.fixed[i].bytes.value());
  Arena(plan).check(failures);
}

}  // namespace memo::check
