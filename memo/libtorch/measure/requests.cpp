// Pairs allocations with their ends, and compares recordings request by request.
#include "memo/libtorch/measure/requests.h"

#include <algorithm>
#include <map>

namespace memo::libtorch {

std::vector<plan::Request> requests_of(const std::vector<AllocationEvent>& events) {
  std::vector<plan::Request> result;
  std::map<const void*, std::size_t> live;
  for (std::size_t e = 0; e < events.size(); ++e) {
    if (events[e].is_malloc) {
      live[events[e].address] = result.size();
      result.push_back({.bytes = events[e].bytes, .born = static_cast<int>(e)});
    } else if (const auto found = live.find(events[e].address); found != live.end()) {
      result[found->second].dies = static_cast<int>(e);
      live.erase(found);
    }
  }
  return result;
}

Result<plan::Trace> at_length(Tokens tokens, const plan::Trace& small, const plan::Trace& large) {
  if (small.requests.size() != large.requests.size())
    return run_time_error("profile: core attention allocates differently at different lengths");
  plan::Trace trace = large;
  trace.tokens = tokens;
  for (std::size_t r = 0; r < large.requests.size() && large.tokens > small.tokens; ++r) {
    const std::int64_t slope =
        (large.requests[r].bytes - small.requests[r].bytes).value() / (large.tokens - small.tokens).value();
    trace.requests[r].bytes += Bytes(slope * (tokens - large.tokens).value());
  }
  return trace;
}

Status take_most(plan::Trace& trace, const plan::Trace& other) {
  if (trace.requests.size() != other.requests.size())
    return run_time_error("profile: core attention allocates differently with documents");
  for (std::size_t r = 0; r < trace.requests.size(); ++r)
    trace.requests[r].bytes = std::max(trace.requests[r].bytes, other.requests[r].bytes);
  return {};
}

}  // namespace memo::libtorch
