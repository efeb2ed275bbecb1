// Threads that search the parts of an instance, and the schedule of their restarts.
#include "memo/pack/restarts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

#include "memo/pack/beam.h"
#include "memo/pack/depth_first.h"

namespace memo::pack {
namespace {

constexpr double nodes_per_buffer = 1.2;  // of the shortest depth-first search: one way down, and a little around it
constexpr std::int64_t narrowest = 25;    // beam
constexpr std::int64_t widest = 1 << 20;  // of a beam, times buffers: its states take about 20 bytes a buffer
constexpr float noise = 0.05F;            // as a share of an order's range

// The n-th term, from 1, of 1 1 2 1 1 2 4 1 1 2 ...
std::int64_t luby(std::int64_t n) {
  for (;;) {
    std::int64_t power = 1;
    while (2 * power - 1 < n) power *= 2;
    if (2 * power - 1 == n) return power;
    n -= power - 1;
  }
}

// Each buffer's rank by `key`, from 0 to 1.
std::vector<float> ranks(const std::vector<double>& key) {
  std::vector<std::size_t> order(key.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key[a] < key[b]; });
  std::vector<float> rank(key.size());
  for (std::size_t k = 0, first = 0; k < order.size(); ++k) {
    if (key[order[k]] != key[order[first]]) first = k;
    rank[order[k]] = static_cast<float>(first) / static_cast<float>(key.size());
  }
  return rank;
}

Beam random_beam(std::int64_t restart, std::uint64_t seed, std::int64_t grain, std::size_t buffers) {
  std::mt19937_64 random(seed * 0x9e3779b97f4a7c15ULL ^ static_cast<std::uint64_t>(restart));
  constexpr std::array<int, 4> rises{2, 3, 5, 8};
  const double power = 8 * static_cast<double>(random() >> 40) * 0x1p-24;
  const std::int64_t most = std::max(narrowest, widest / static_cast<std::int64_t>(buffers));
  return {static_cast<std::size_t>(std::min(narrowest * luby(restart + 1), most)), rises[random() % rises.size()],
          static_cast<double>(grain) * std::exp2(power)};
}

}  // namespace

struct Restarts::Part {
  struct Searches {  // the searches of a thread
    explicit Searches(const Instance& instance) : skyline(instance), depth_first(skyline) {}
    Skyline skyline;
    DepthFirst depth_first;
  };
  std::vector<std::size_t> names;  // of its buffers, in the whole instance
  Instance instance;
  std::vector<std::unique_ptr<Searches>> searches;
  std::vector<std::vector<float>> orders;  // priorities of buffers, for depth-first searches
  std::vector<std::int64_t> offsets;
  std::int64_t peak = std::numeric_limits<std::int64_t>::max();
  std::array<std::int64_t, 2> restarts{};  // by kind

  // The orders of MiniMalloc: long before large before loaded; loaded, large, long; loaded, long, large. Load: the most
  // bytes alive during the buffer's life.
  void rank() {
    const Sections sections(instance);
    std::vector<double> live(sections.count, 0), most(instance.size(), 0), lengths, areas;
    for (std::size_t i = 0; i < instance.size(); ++i)
      for (const Range& range : sections.of(i))
        for (std::uint32_t s = range.first; s < range.last; ++s) live[s] += static_cast<double>(instance[i].size);
    for (std::size_t i = 0; i < instance.size(); ++i) {
      for (const Range& range : sections.of(i))
        for (std::uint32_t s = range.first; s < range.last; ++s) most[i] = std::max(most[i], live[s]);
      lengths.push_back(static_cast<double>(instance[i].upper) - static_cast<double>(instance[i].lower));
      areas.push_back(lengths.back() * static_cast<double>(instance[i].size));
    }
    const std::vector<float> load = ranks(most), length = ranks(lengths), area = ranks(areas);
    const auto order = [&](const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& c) {
      std::vector<float>& result = orders.emplace_back(a);
      for (std::size_t i = 0; i < result.size(); ++i) result[i] += 1e-2F * b[i] + 1e-4F * c[i];
    };
    order(length, area, load);
    order(load, area, length);
    order(load, length, area);
  }

  // Takes each order once as it is, then with noise.
  [[nodiscard]] std::vector<float> priority(std::int64_t restart, std::uint64_t seed) const {
    std::vector<float> result = orders[static_cast<std::size_t>(restart) % orders.size()];
    std::mt19937_64 random(seed * 0x9e3779b97f4a7c15ULL + static_cast<std::uint64_t>(restart));
    if (restart >= static_cast<std::int64_t>(orders.size()))
      for (float& r : result) r += noise * static_cast<float>(random() >> 40) * 0x1p-24F;
    return result;
  }
};

Restarts::Restarts(const Instance& instance, std::uint64_t seed, int threads)
    : buffers_(instance.size()), seed_(seed), threads_(threads), grain_(granule(instance)) {
  std::vector<std::size_t> by_lower(instance.size());
  std::iota(by_lower.begin(), by_lower.end(), std::size_t{0});
  std::stable_sort(by_lower.begin(), by_lower.end(),
                   [&](std::size_t a, std::size_t b) { return instance[a].lower < instance[b].lower; });
  std::int64_t end = 0;
  for (const std::size_t i : by_lower) {
    if (parts_.empty() || instance[i].lower >= end) parts_.push_back(std::make_unique<Part>());
    end = std::max(end, instance[i].upper);
    parts_.back()->names.push_back(i);
    parts_.back()->instance.push_back(instance[i]);
  }
  for (const auto& part : parts_) {
    part->rank();
    part->searches.resize(static_cast<std::size_t>(threads));
  }
}

Restarts::~Restarts() = default;

Verdict Restarts::run(std::int64_t peak, Kind kind, const std::function<bool()>& interrupted) {
  const auto open = std::find_if(parts_.begin(), parts_.end(), [&](const auto& part) { return part->peak > peak; });
  if (open == parts_.end()) return Verdict::packed;
  Part& part = **open;
  std::vector<Verdict> verdicts(part.searches.size());
  std::vector<std::int64_t> nodes(verdicts.size(), 0);
  const auto search = [&](std::size_t thread) {
    if (!part.searches[thread]) part.searches[thread] = std::make_unique<Part::Searches>(part.instance);
    const std::int64_t restart = part.restarts[kind] + static_cast<std::int64_t>(thread);
    if (kind == beam) {
      const Beam parameters = random_beam(restart, seed_, grain_, part.names.size());
      verdicts[thread] = beam_search(part.searches[thread]->skyline, peak, parameters, nodes[thread], interrupted);
    } else {
      const std::int64_t most =
          8 + static_cast<std::int64_t>(nodes_per_buffer * static_cast<double>(part.names.size()) *
                                        static_cast<double>(luby(restart / 3 + 1)));
      std::int64_t left = most;
      verdicts[thread] =
          part.searches[thread]->depth_first.search(peak, part.priority(restart, seed_), left, interrupted);
      nodes[thread] = most - left;
    }
  };
  std::vector<std::thread> others;
  for (std::size_t thread = 1; thread < verdicts.size(); ++thread) others.emplace_back(search, thread);
  search(0);
  for (std::thread& other : others) other.join();
  part.restarts[kind] += threads_;
  nodes_[kind] += std::accumulate(nodes.begin(), nodes.end(), std::int64_t{0});
  for (std::size_t thread = 0; thread < verdicts.size(); ++thread) {
    if (verdicts[thread] == Verdict::refuted) return Verdict::refuted;
    if (verdicts[thread] != Verdict::packed) continue;
    part.offsets = part.searches[thread]->skyline.offsets();
    part.peak = 0;
    for (std::size_t i = 0; i < part.offsets.size(); ++i)
      part.peak = std::max(part.peak, part.offsets[i] + part.instance[i].size);
    return std::all_of(parts_.begin(), parts_.end(), [&](const auto& p) { return p->peak <= peak; }) ? Verdict::packed
                                                                                                     : Verdict::cut_off;
  }
  return Verdict::cut_off;
}

std::vector<std::int64_t> Restarts::offsets() const {
  std::vector<std::int64_t> all(buffers_);
  for (const auto& part : parts_)
    for (std::size_t i = 0; i < part->names.size(); ++i) all[part->names[i]] = part->offsets[i];
  return all;
}

}  // namespace memo::pack
