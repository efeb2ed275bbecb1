// A sweep over births and deaths.
#include "memo/pack/sections.h"

#include <algorithm>
#include <utility>

namespace memo::pack {

Sections::Sections(const Instance& instance) : begin(instance.size() + 1, 0) {
  struct Event {
    std::int64_t time;
    bool starts;  // ends come first at equal times: lifetimes are half-open
    std::uint32_t range;
  };
  std::vector<Event> events;
  events.reserve(2 * instance.size());
  std::uint32_t ranges = 0;
  for (std::size_t i = 0; i < instance.size(); ++i) {
    for_each_life(instance[i], [&](std::int64_t lower, std::int64_t upper) {
      events.push_back({lower, true, ranges});
      events.push_back({upper, false, ranges++});
    });
    begin[i + 1] = ranges;
  }
  std::sort(events.begin(), events.end(),
            [](const Event& a, const Event& b) { return a.time != b.time ? a.time < b.time : a.starts < b.starts; });
  all.resize(ranges);
  bool started = false;  // a section ends with the first end after a start
  for (const Event& event : events) {
    if (!event.starts && started) ++count;
    started = event.starts;
    (event.starts ? all[event.range].first : all[event.range].last) = count;
  }
}

std::size_t pairs_alive(const Instance& instance, std::size_t most) {
  std::vector<std::pair<std::int64_t, bool>> events;
  for (const Buffer& b : instance) {
    events.emplace_back(b.lower, true);
    events.emplace_back(b.upper, false);
  }
  std::sort(events.begin(), events.end());
  std::size_t alive = 0, pairs = 0;
  for (const auto& [time, starts] : events) {
    if (starts)
      pairs += alive++;
    else
      --alive;
    if (pairs >= most) return most;
  }
  return pairs;
}

}  // namespace memo::pack
