// The search: best fit along time, then first fit over a portfolio of orders. Small instances then get an exact search
// with restarts, larger ones first fit over orders that learn from buffers that did not fit.
#include "memo/pack/pack.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "memo/base/check.h"
#include "memo/pack/best_fit.h"
#include "memo/pack/first_fit.h"
#include "memo/pack/mip.h"
#include "memo/pack/restarts.h"

namespace memo::pack {
namespace {

using Order = std::vector<std::uint32_t>;

// Keys by which a buffer may be placed early; larger keys come first.
enum Key { load, size, area, length, start, end, size_class, key_count };
using Keys = std::vector<std::array<double, key_count>>;

struct By {
  Key first, second, third = key_count;  // key_count: none
};
constexpr std::array<By, 17> portfolio{{{load, size},
                                        {load, area},
                                        {load, length},
                                        {load, start},
                                        {load, size_class, length},
                                        {size, length},
                                        {size, start},
                                        {size, load},
                                        {area, size},
                                        {area, start},
                                        {length, size},
                                        {length, load},
                                        {length, start},
                                        {start, size},
                                        {start, length},
                                        {end, size},
                                        {end, length}}};

Keys keys_of(const Instance& instance, const FirstFit& first_fit) {
  const std::vector<std::int64_t> loads = first_fit.peak_loads();
  Keys keys(instance.size());
  for (std::size_t i = 0; i < instance.size(); ++i) {
    const Buffer& b = instance[i];
    const double lower = static_cast<double>(b.lower), upper = static_cast<double>(b.upper);
    const double bytes = static_cast<double>(b.size);
    keys[i] = {static_cast<double>(loads[i]),
               bytes,
               bytes * (upper - lower),
               upper - lower,
               -lower,
               upper,
               static_cast<double>(std::bit_width(static_cast<std::uint64_t>(b.size)))};
  }
  return keys;
}

// Replaces each key by its rank, 0 to 1, so that keys can be mixed.
Keys ranks_of(const Keys& keys) {
  Keys ranks(keys.size());
  std::vector<std::size_t> by(keys.size());
  for (std::size_t key = 0; key < key_count; ++key) {
    std::iota(by.begin(), by.end(), std::size_t{0});
    std::stable_sort(by.begin(), by.end(), [&](std::size_t a, std::size_t b) { return keys[a][key] < keys[b][key]; });
    for (std::size_t i = 0, rank = 0; i < by.size(); ++i) {
      if (i > 0 && keys[by[i]][key] != keys[by[i - 1]][key]) rank = i;
      ranks[by[i]][key] = static_cast<double>(rank) / static_cast<double>(by.size());
    }
  }
  return ranks;
}

class Searches {
 public:
  Searches(const Instance& instance, const Options& options)
      : instance_(instance), options_(options), random_(options.seed) {
    for (std::uint32_t i = 0; i < instance.size(); ++i)
      if (!instance[i].fixed) movable_.push_back(i);
    best_.lower_bound = lower_bound(instance);
  }

  Packing run() {
    if (options_.capacity && best_.lower_bound > *options_.capacity) {
      best_.outcome = Outcome::infeasible;
    } else {
      consider_sweep(best_fit_forward(instance_));
      longest_ = elapsed();
      in_one_go([this] { consider_sweep(best_fit_backward(instance_)); });
      in_one_go([this] { keys_ = keys_of(instance_, first_fit_.emplace(instance_)); });
      const std::size_t pairs = pairs_alive(instance_, loose_pairs);
      const std::size_t exact = options_.rounds ? exact_pairs_in_rounds : exact_pairs;
      const std::size_t orders = pairs < exact ? exact_orders : portfolio.size();
      for (std::size_t i = 0; i < orders && !ended(); ++i) attempt(sorted_by(portfolio[i]));
      if (options_.method == Method::mip)
        search_mip(pairs);
      else if (pairs < exact)
        search_exactly(0);
      else if (pairs < loose_pairs && !options_.rounds)
        search_exactly(orders_per_restart);
      else
        improve(std::numeric_limits<std::int64_t>::max());
      best_.outcome = outcome();
    }
    best_.seconds = elapsed();
    return std::move(best_);
  }

 private:
  static constexpr std::size_t exact_pairs = 250'000;  // pairs of buffers alive together: 2 MB of neighbours a thread
  static constexpr std::size_t exact_pairs_in_rounds = 32'000;  // whose rounds end well before a time limit
  static constexpr std::size_t loose_pairs = 2'000'000;         // below this, exact searches and orders take turns
  static constexpr std::size_t mip_pairs = 20'000;              // the largest model
  static constexpr std::int64_t orders_per_restart = 30;
  static constexpr std::size_t exact_orders = 4;      // orders of the portfolio before the exact search
  static constexpr std::int64_t head_start = 50'000;  // nodes of depth-first searches before beams begin
  static constexpr std::int64_t beam_share = 16;      // nodes of beams for each node of depth-first searches after that

  [[nodiscard]] Outcome outcome() const {
    if (best_.offsets.empty() && !instance_.empty())
      return options_.capacity && best_.lower_bound > *options_.capacity ? Outcome::infeasible : Outcome::timeout;
    return options_.capacity || best_.peak == best_.lower_bound ? Outcome::optimal : Outcome::feasible;
  }
  [[nodiscard]] double elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  [[nodiscard]] bool interrupted() const {
    return late_ || (options_.stop != nullptr && options_.stop->load() != 0) || elapsed() >= options_.time_limit;
  }
  // The highest peak that would be an improvement.
  [[nodiscard]] std::int64_t ceiling() const {
    if (!best_.offsets.empty()) return best_.peak - 1;
    return options_.capacity.value_or(std::numeric_limits<std::int64_t>::max());
  }
  [[nodiscard]] bool solved() const {
    return instance_.empty() || ceiling() < best_.lower_bound || (options_.capacity && !best_.offsets.empty());
  }
  [[nodiscard]] bool ended() const {
    return solved() || (options_.rounds && rounds_ >= *options_.rounds) || interrupted();
  }

  // Runs work that cannot be interrupted, if there is time for a piece as long as the longest so far; otherwise ends
  // the search.
  template <class Work>
  void in_one_go(Work work) {
    if (solved() || interrupted()) return;
    const double begin = elapsed();
    if (begin + longest_ > options_.time_limit) {
      late_ = true;
      return;
    }
    work();
    longest_ = std::max(longest_, elapsed() - begin);
  }

  FirstFit::Result attempt(const Order& order) {
    ++rounds_;
    const FirstFit::Result result = first_fit_->place(
        order, ceiling(), [this] { return interrupted(); }, offsets_);
    if (result.end == FirstFit::End::placed) consider(offsets_, order);
    return result;
  }

  void consider(const std::vector<std::int64_t>& offsets, Order order) {
    std::int64_t peak = 0;
    for (std::size_t i = 0; i < instance_.size(); ++i) peak = std::max(peak, offsets[i] + instance_[i].size);
    if (peak > ceiling()) return;
    best_.peak = peak;
    best_.offsets = offsets;
    best_order_ = std::move(order);
  }

  void consider_sweep(const std::vector<std::int64_t>& offsets) {
    Order order = movable_;  // by address, in which order first fit moves no buffer up
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return offsets[a] < offsets[b]; });
    consider(offsets, std::move(order));
  }

  Order sorted_by(const By& by) const {
    Order order = movable_;
    std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      for (const Key key : {by.first, by.second, by.third})
        if (key != key_count && keys_[a][key] != keys_[b][key]) return keys_[a][key] > keys_[b][key];
      return false;
    });
    return order;
  }

  // A random mix of keys, with some noise.
  Order mixed() {
    std::uniform_real_distribution<double> uniform(0, 1);
    std::array<double, key_count> weights{};
    for (double& weight : weights) weight = std::max(0., uniform(random_) * 2 - 1);
    const double noise = uniform(random_) * 0.2;
    std::vector<double> score(instance_.size());
    for (const std::uint32_t i : movable_) {
      score[i] = noise * uniform(random_);
      for (std::size_t key = 0; key < key_count; ++key) score[i] += weights[key] * ranks_[i][key];
    }
    Order order = movable_;
    std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return score[a] > score[b]; });
    return order;
  }

  // Depth-first searches aim at the bound, which they may refute; beams aim at the bound and at higher peaks in turn.
  void search_exactly(std::int64_t orders_between) {
    if (ended()) return;
    Restarts restarts(instance_, options_.seed, options_.threads);
    const std::int64_t grain = granule(instance_);
    constexpr std::array<double, 5> shares{0, 0.5, 0, 0.75, 0.25};  // of the distance to the best so far
    for (std::size_t beams = 0; !ended(); ++rounds_) {
      const std::int64_t nodes = restarts.nodes(Restarts::depth_first);
      const bool deep = orders_between > 0 || nodes < head_start || nodes < restarts.nodes(Restarts::beam) / beam_share;
      const Restarts::Kind kind = deep ? Restarts::depth_first : Restarts::beam;
      const double share = deep ? 0 : shares[beams++ % shares.size()];
      const auto steps =
          static_cast<std::int64_t>(share * static_cast<double>((ceiling() - best_.lower_bound) / grain));
      const std::int64_t peak = options_.capacity.value_or(best_.lower_bound + steps * grain);
      const Verdict verdict = restarts.run(peak, kind, [this] { return interrupted(); });
      if (verdict == Verdict::packed)
        consider_sweep(restarts.offsets());
      else if (verdict == Verdict::refuted)
        best_.lower_bound = std::max(best_.lower_bound, (peak / grain + 1) * grain);
      improve(orders_between);
    }
  }

  void search_mip(std::size_t pairs) {
    if (ended() || pairs >= mip_pairs) return;
    const bool known = !best_.offsets.empty();
    const MipAnswer answer = pack_mip(instance_, known ? best_.peak : *options_.capacity, best_.offsets,
                                      std::max(0.1, options_.time_limit - elapsed()), options_.seed);
    best_.lower_bound = std::max(best_.lower_bound, answer.lower_bound);
    if (!answer.offsets.empty()) consider_sweep(answer.offsets);
  }

  // Squeaky wheel (Joslin and Clements, "Squeaky Wheel" Optimization, JAIR 10, 1999): buffers that end above the bound,
  // all of them or a random share, move towards the front of the order, until an order wins or patience ends. Then
  // another order starts.
  void improve(std::int64_t attempts) {
    if (attempts == 0 || ended()) return;
    if (ranks_.empty()) ranks_ = ranks_of(keys_);
    std::uniform_real_distribution<double> uniform(0, 1);
    std::vector<double> priority(instance_.size());
    Order order;
    const auto restart = [&](Order from) {
      order = std::move(from);
      for (std::size_t i = 0; i < order.size(); ++i)
        priority[order[i]] = 1 - static_cast<double>(i) / static_cast<double>(order.size());
    };
    restart(best_order_.empty() ? mixed() : best_order_);
    constexpr int patience = 60;
    for (int failures = 0; attempts > 0 && !ended(); --attempts) {
      const FirstFit::Result result = attempt(order);
      if (result.end == FirstFit::End::placed) {
        failures = 0;
      } else if (++failures > patience) {
        failures = 0;
        restart(random_() % 4 != 0 && !best_order_.empty() ? best_order_ : mixed());
        continue;
      }
      const double share = random_() % 2 == 0 ? 1 : uniform(random_);
      const double reach = uniform(random_) * uniform(random_);
      const std::size_t placed =
          std::min(result.end == FirstFit::End::placed ? order.size() : result.position + 1, order.size());
      for (std::size_t k = 0; k < placed; ++k) {
        const std::uint32_t i = order[k];
        const bool squeaks = offsets_[i] > best_.lower_bound - instance_[i].size;
        if (squeaks && (k + 1 == placed || uniform(random_) < share))
          priority[i] += reach * uniform(random_) * (1.01 - std::min(1., priority[i]));
      }
      std::stable_sort(order.begin(), order.end(),
                       [&](std::uint32_t a, std::uint32_t b) { return priority[a] > priority[b]; });
    }
  }

  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  const Instance& instance_;
  const Options& options_;
  std::optional<FirstFit> first_fit_;
  Keys keys_, ranks_;
  double longest_ = 0;  // seconds of the longest piece of work so far
  bool late_ = false;
  Order movable_, best_order_;
  std::mt19937_64 random_;
  std::vector<std::int64_t> offsets_;
  std::int64_t rounds_ = 0;
  Packing best_;
};

}  // namespace

Packing pack(const Instance& instance, const Options& options) {
  for (const Buffer& b : instance) {
    MEMO_CHECK(b.lower < b.upper && b.size > 0 && b.alignment > 0 && (!b.fixed || *b.fixed >= 0),
               "buffers have a lifetime, a size and an alignment");
    for_each_life(
        b, [](std::int64_t lower, std::int64_t upper) { MEMO_CHECK(lower < upper, "gaps are inside of a life"); });
  }
  MEMO_CHECK(options.threads >= 1, "at least one thread searches");
  MEMO_CHECK(instance.size() < std::numeric_limits<std::uint32_t>::max(), "buffers are counted in 32 bits");
  return Searches(instance, options).run();
}

}  // namespace memo::pack
