// Proved lower bounds on the peak, by one sweep over time.
#include <algorithm>
#include <numeric>
#include <set>

#include "memo/pack/pack.h"

namespace memo::pack {
namespace {

// The largest, over time, of the live sizes rounded up to `grain`, less the largest rounding among them. This is a
// bound where every offset is a multiple of `grain`: only the topmost live buffer can leave its rounding out of the
// peak.
std::int64_t padded_live_bytes(const Instance& instance, std::int64_t grain) {
  struct Event {
    std::int64_t time;
    bool starts;  // ends come first at equal times: lifetimes are half-open
    std::size_t buffer;
  };
  std::vector<Event> events;
  events.reserve(2 * instance.size());
  for (std::size_t i = 0; i < instance.size(); ++i) {
    for_each_life(instance[i], [&](std::int64_t lower, std::int64_t upper) {
      events.push_back({lower, true, i});
      events.push_back({upper, false, i});
    });
  }
  std::sort(events.begin(), events.end(),
            [](const Event& a, const Event& b) { return a.time != b.time ? a.time < b.time : a.starts < b.starts; });
  std::int64_t live = 0, most = 0;
  std::multiset<std::int64_t> paddings;
  for (const Event& event : events) {
    const std::int64_t size = instance[event.buffer].size;
    const std::int64_t padding = (grain - size % grain) % grain;
    if (event.starts) {
      live += size + padding;
      if (padding > 0) paddings.insert(padding);
      most = std::max(most, live - (paddings.empty() ? 0 : *paddings.rbegin()));
    } else {
      live -= size + padding;
      if (padding > 0) paddings.erase(paddings.find(padding));
    }
  }
  return most;
}

}  // namespace

std::int64_t max_live_bytes(const Instance& instance) { return padded_live_bytes(instance, 1); }

// In a justified packing each buffer rests on another, on a fixed one or on the ground, so its offsets are sums of
// sizes and fixed offsets, rounded up to alignments.
std::int64_t granule(const Instance& instance) {
  std::int64_t grain = 0;
  for (const Buffer& b : instance) grain = std::gcd(grain, std::gcd(b.size, b.fixed.value_or(0)));
  for (const Buffer& b : instance)
    if (grain % b.alignment != 0) grain = std::gcd(grain, b.alignment);
  return std::max(grain, std::int64_t{1});
}

std::int64_t lower_bound(const Instance& instance) {
  std::int64_t bound = max_live_bytes(instance), grain = 0;
  for (const Buffer& buffer : instance) {
    grain = std::gcd(grain, buffer.alignment);
    if (buffer.fixed) bound = std::max(bound, *buffer.fixed + buffer.size);
  }
  return grain > 1 ? std::max(bound, padded_live_bytes(instance, grain)) : bound;
}

}  // namespace memo::pack
