// Advances compute and two copy streams from one end of a copy to the next.
#include "memo/sim/simulate.h"

#include <algorithm>
#include <array>
#include <deque>
#include <limits>

#include "memo/base/index.h"

namespace memo::sim {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();

// Three streams as flows. Each copy stream moves its oldest copy at the tier's rate, which is lower while the other
// direction moves too. Compute slows down while copies run (they share memory bandwidth and, on a CPU, cores).
class Streams {
 public:
  Streams(const plan::Profile& profile, const plan::Program& program) : profile_(profile), program_(program) {
    done_.assign(program.copies.size(), never);
  }

  void start(int copy) {
    const plan::Copy& c = program_.copies[at(copy)];
    Lane& lane = lanes_[c.direction == plan::Direction::out ? 0 : 1];
    const plan::Residency& residency = program_.residencies[c.residency];
    if (lane.queue.empty()) lane.started = now_;
    lane.queue.push_back({copy, static_cast<double>(program_.tensors[residency.tensor].bytes.value())});
  }
  // Advances time until the copy has ended.
  void wait(int copy) {
    while (done_[at(copy)] == never) pass(never);
  }
  // Advances time until `work` seconds of compute are done.
  void compute(double work) {
    while (work > 0) {
      const double slowdown = compute_slowdown();
      const double before = now_, end = now_ + work * slowdown;
      pass(end);
      work = now_ < end ? work - (now_ - before) / slowdown : 0;  // exact: a late clock is too coarse to count down
    }
  }
  [[nodiscard]] double now() const { return now_; }
  std::vector<Interval> take(int lane) { return std::move(lanes_[at(lane)].done); }

 private:
  struct Moving {
    int copy;
    double bytes;
  };
  struct Lane {
    std::deque<Moving> queue;
    double started = 0;
    std::vector<Interval> done;
  };

  [[nodiscard]] const plan::Tier& tier_of(const Lane& lane) const {
    return profile_.tiers[at(program_.copies[at(lane.queue.front().copy)].tier)];
  }
  [[nodiscard]] double rate(int lane) const {
    const plan::Tier& tier = tier_of(lanes_[at(lane)]);
    const bool both = !lanes_[at(1 - lane)].queue.empty();
    if (lane == 0) return (both ? tier.write_with_read : tier.write).value();
    return (both ? tier.read_with_write : tier.read).value();
  }
  [[nodiscard]] double compute_slowdown() const {
    double slowdown = 1;
    for (const Lane& lane : lanes_)
      if (!lane.queue.empty()) slowdown = std::max(slowdown, tier_of(lane).compute_slowdown);
    return slowdown;
  }

  // Moves the clock to `until` or to the next end of a copy, whichever is first.
  void pass(double until) {
    double next = until;
    std::array<double, 2> rates{}, ends{never, never};
    for (int l = 0; l < 2; ++l)
      if (!lanes_[at(l)].queue.empty()) {
        rates[at(l)] = rate(l);
        ends[at(l)] = now_ + lanes_[at(l)].queue.front().bytes / rates[at(l)];
        next = std::min(next, ends[at(l)]);
      }
    const double elapsed = next - now_;
    now_ = next;
    for (int l = 0; l < 2; ++l) {
      Lane& lane = lanes_[at(l)];
      if (lane.queue.empty()) continue;
      Moving& head = lane.queue.front();
      head.bytes -= elapsed * rates[at(l)];
      if (ends[at(l)] > next) continue;
      done_[at(head.copy)] = now_;
      lane.done.push_back({head.copy, lane.started, now_});
      lane.queue.pop_front();
      lane.started = now_;
    }
  }

  const plan::Profile& profile_;
  const plan::Program& program_;
  double now_ = 0;
  std::array<Lane, 2> lanes_;
  std::vector<double> done_;
};

}  // namespace

Timeline simulate(const plan::Profile& profile, const plan::Program& program) {
  const plan::CallIndex calls = program.calls.end_index();
  IndexedVector<plan::Boundary, std::vector<int>> waits(program.calls.size() + 1), starts(program.calls.size() + 1);
  Timeline timeline;
  for (std::size_t c = 0; c < program.copies.size(); ++c) {
    const plan::Copy& copy = program.copies[c];
    waits[copy.before].push_back(static_cast<int>(c));
    starts[copy.at].push_back(static_cast<int>(c));
    const Bytes bytes = program.tensors[program.residencies[copy.residency].tensor].bytes;
    (copy.direction == plan::Direction::out ? timeline.bytes_out : timeline.bytes_in) += bytes;
  }
  Streams streams(profile, program);
  double stall = 0;
  for (plan::CallIndex k; k <= calls; ++k) {
    const double before = streams.now();
    for (int copy : waits[k]) streams.wait(copy);
    stall += streams.now() - before;
    for (int copy : starts[k]) streams.start(copy);
    if (k == calls) break;
    const double start = streams.now();
    streams.compute(profile.traces[program.calls[k].trace].seconds.value());
    timeline.calls.push_back({k.value(), start, streams.now()});
  }
  timeline.step = Seconds(streams.now());
  timeline.stall = Seconds(stall);
  timeline.copies_out = streams.take(0);
  timeline.copies_in = streams.take(1);
  return timeline;
}

}  // namespace memo::sim
