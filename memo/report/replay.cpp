// Turns residencies into buffers, and plays buffers and transients in the order of boundaries.
#include "memo/report/replay.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "memo/base/index.h"
#include "memo/report/caching_allocator.h"

namespace memo::report {
namespace {

struct Buffer {
  plan::ClassIndex cls;
  int group = 0;
  plan::Boundary begin, end;
  Bytes bytes;
  bool produced = true;  // written by call `begin`, not copied in
};

std::vector<Buffer> buffers(const plan::Plan& plan) {
  const plan::Program& program = plan.program;
  std::vector<Buffer> result;
  std::map<std::tuple<plan::ClassIndex, plan::LayerIndex, int>, std::vector<Buffer>>
      sequences;  // key: class, layer, group
  for (const plan::Residency& r : program.residencies) {
    const plan::Tensor& tensor = program.tensors[r.tensor];
    const Buffer buffer{tensor.cls, tensor.group, r.begin, r.end, tensor.bytes, r.origin == plan::Origin::produced};
    if (plan.profile.flow.classes[tensor.cls].sequence)
      sequences[{tensor.cls, tensor.layer, tensor.group}].push_back(buffer);
    else
      result.push_back(buffer);
  }
  for (auto& [key, parts] : sequences) {
    const Bytes whole = plan.profile.flow.classes[std::get<0>(key)].row * plan.profile.flow.context.value();
    std::ranges::sort(parts, {}, &Buffer::begin);
    Buffer sum = parts.front();
    for (std::size_t i = 1; i < parts.size(); ++i) {
      if (parts[i].begin >= sum.end) {
        result.push_back(std::exchange(sum, parts[i]));
        continue;
      }
      sum.bytes = std::min(sum.bytes + parts[i].bytes, whole);
      sum.end = std::max(sum.end, parts[i].end);
    }
    result.push_back(sum);
  }
  return result;
}

// The mallocs and frees of a trace, in order.
struct Event {
  int when = 0, request = 0;
  bool birth = true;
};
std::vector<Event> events(const plan::Trace& trace) {
  std::vector<Event> result;
  for (std::size_t r = 0; r < trace.requests.size(); ++r) {
    const plan::Request& request = trace.requests[r];
    result.push_back({request.born, static_cast<int>(r), true});
    if (!request.cls.exists()) result.push_back({request.dies, static_cast<int>(r), false});
  }
  std::ranges::stable_sort(result, {}, &Event::when);
  return result;
}

// Indices 0..count - 1, sorted by a boundary of each.
template <class Boundary>
std::vector<int> ordered(std::size_t count, Boundary boundary) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, boundary);
  return order;
}

class Player {
 public:
  Player(const plan::Plan& plan, Bytes capacity)
      : plan_(plan), allocator_(capacity), buffers_(buffers(plan)), handles_(buffers_.size(), -1) {
    for (const plan::Trace& trace : plan.profile.traces) events_.push_back(events(trace));
  }

  Replay play() {
    const std::vector<int> births = ordered(buffers_.size(), [&](int b) { return buffers_[at(b)].begin; });
    const std::vector<int> deaths = ordered(buffers_.size(), [&](int b) { return buffers_[at(b)].end; });
    auto birth = births.begin(), death = deaths.begin();
    for (const plan::Fixed& fixed : plan_.profile.fixed) (void)take(fixed.bytes);
    for (const plan::CallIndex k : plan_.program.calls.indices()) {
      if (failed_) break;
      for (; death != deaths.end() && buffers_[at(*death)].end <= k; ++death) allocator_.free(handles_[at(*death)]);
      pending_.clear();
      for (; birth != births.end() && buffers_[at(*birth)].begin == k; ++birth)
        buffers_[at(*birth)].produced ? pending_.push_back(*birth) : fill(*birth);
      call(plan_.program.calls[k]);
      note(k);
    }
    result_.allocated = allocator_.peak_allocated();
    result_.reserved = allocator_.peak_reserved();
    return std::move(result_);
  }

 private:
  int take(Bytes bytes) {
    const auto handle = failed_ ? std::nullopt : allocator_.allocate(bytes);
    failed_ = !handle;
    return handle.value_or(-1);
  }
  void fill(int buffer) { handles_[at(buffer)] = take(buffers_[at(buffer)].bytes); }

  // Requests the tensors that the call writes when the profiled call requested theirs.
  void fill_pending(plan::ClassIndex cls, int group) {
    std::erase_if(pending_, [&](int b) {
      const bool asked = buffers_[at(b)].cls == cls && buffers_[at(b)].group == group;
      if (asked) fill(b);
      return asked;
    });
  }

  void call(const plan::Call& call) {
    const plan::Trace& trace = plan_.profile.traces[call.trace];
    transients_.assign(trace.requests.size(), -1);
    for (const Event& event : events_[call.trace]) {
      if (failed_) return;
      const plan::Request& request = trace.requests[at(event.request)];
      if (request.cls.exists())
        fill_pending(request.cls, request.group + (grouped(request.cls) && call.group > 0 ? call.group : 0));
      else if (event.birth)
        transients_[at(event.request)] = take(request.bytes);
      else
        allocator_.free(transients_[at(event.request)]);
    }
    for (const int buffer : pending_) fill(buffer);
  }
  [[nodiscard]] bool grouped(plan::ClassIndex cls) const { return plan_.profile.flow.classes[cls].grouped; }

  void note(plan::CallIndex k) {
    if (failed_) result_.failed_at = k;
    if (result_.growth.empty() || result_.growth.back().reserved != allocator_.reserved())
      result_.growth.push_back({k, allocator_.reserved()});
  }

  const plan::Plan& plan_;
  CachingAllocator allocator_;
  std::vector<Buffer> buffers_;
  std::vector<CachingAllocator::Handle> handles_, transients_;
  IndexedVector<plan::TraceIndex, std::vector<Event>> events_;
  std::vector<int> pending_;  // tensors that the call writes and has not requested yet
  bool failed_ = false;
  Replay result_;
};

}  // namespace

Replay replay(const plan::Plan& plan, Bytes capacity) { return Player(plan, capacity).play(); }

}  // namespace memo::report
