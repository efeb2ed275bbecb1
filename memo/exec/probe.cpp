// Copies in one or both directions, timed alone and while compute runs.
#include "memo/exec/probe.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

#include "memo/exec/cpu_copies.h"

namespace memo::exec {
namespace {

using plan::Direction;

constexpr double compute_seconds = 0.25;  // how long `work` is timed, alone and during copies

class Probe {
 public:
  // `request`: a multiple of a page.
  Probe(CopyEngine& engine, std::byte* memory, Bytes bytes, Bytes request)
      : engine_(engine),
        request_(request),
        count_(std::max<std::int64_t>(2, bytes.value() / request_.value())),
        out_(memory),
        in_(memory + request.value()) {}

  // Seconds until `count_` copies of each given direction have ended.
  Result<double> run(bool out, bool in) {
    const double start = engine_.now();
    enqueue(out, in);
    MEMO_CHECKED(engine_.drain());
    return engine_.now() - start;
  }

  // Seconds for each call of `work`, while copies of both directions run `rounds` times.
  Result<double> time_work(const std::function<void()>& work, int rounds) {
    work();
    (void)engine_.take_spans(Direction::out);
    (void)engine_.take_spans(Direction::in);
    const double start = engine_.now();
    for (int i = 0; i < rounds; ++i) enqueue(true, true);
    int calls = 0;
    while (engine_.now() - start < compute_seconds) {
      work();
      ++calls;
    }
    worked_until_ = engine_.now();
    MEMO_CHECKED(engine_.drain());
    return (worked_until_ - start) / std::max(calls, 1);
  }

  // The rate of a direction's copies during the last `time_work`; of all of them, if none ended before the work.
  [[nodiscard]] BytesPerSecond rate_beside_work(Direction direction) {
    const std::vector<Span> spans = engine_.take_spans(direction);
    const auto beside = std::ranges::partition_point(spans, [&](const Span& s) { return s.end <= worked_until_; });
    const auto last = beside == spans.begin() ? spans.end() : beside;
    if (last == spans.begin()) return {};
    const auto bytes = static_cast<double>(request_.value() * (last - spans.begin()));
    return BytesPerSecond(bytes / std::max((last - 1)->end - spans.front().start, 1e-9));
  }

  [[nodiscard]] BytesPerSecond rate(double seconds) const {
    return BytesPerSecond(static_cast<double>(request_.value() * count_) / std::max(seconds, 1e-9));
  }

 private:
  void enqueue(bool out, bool in) {
    for (int i = 0; i < count_; ++i) {
      const Bytes offset = request_ * i;
      if (out) engine_.start({out_, request_, Direction::out, 0, offset}, i);
      if (in) engine_.start({in_, request_, Direction::in, 0, offset}, i);
    }
    engine_.submit();
  }

  CopyEngine& engine_;
  Bytes request_;
  std::int64_t count_;
  std::byte *out_, *in_;
  double worked_until_ = 0;
};

}  // namespace

Result<TierRates> measure_tier(CopyEngine& engine, std::byte* memory, Bytes bytes, Bytes request,
                               const std::function<void()>& work) {
  Probe probe(engine, memory, bytes, request);
  MEMO_CHECKED(probe.run(true, false));  // the first pass over new extents is slower
  MEMO_TRY(const double write, probe.run(true, false));
  MEMO_TRY(const double read, probe.run(false, true));
  MEMO_TRY(const double both, probe.run(true, true));
  MEMO_TRY(const double alone, probe.time_work(work, 0));
  // Copies of the whole time that work is timed; a GPU's take a hundredth of it.
  const auto rounds = static_cast<int>(std::clamp(std::ceil(compute_seconds / both), 1.0, 1000.0));
  MEMO_TRY(const double shared, probe.time_work(work, rounds));
  TierRates rates;
  rates.write = probe.rate(write);
  rates.read = probe.rate(read);
  rates.write_with_read = std::min(probe.rate(both), rates.write);
  rates.read_with_write = std::min(probe.rate(both), rates.read);
  rates.write_with_compute = probe.rate_beside_work(Direction::out);
  rates.read_with_compute = probe.rate_beside_work(Direction::in);
  rates.compute_slowdown = std::clamp(shared / alone, 1.0, 2.0);
  return rates;
}

Result<TierRates> measure_tier(TierStore& store, Bytes bytes, Bytes request, const std::function<void()>& work) {
  const Bytes whole = round_up(request, plan::copy_alignment);
  const auto size = static_cast<std::size_t>(2 * whole.value());
  const std::unique_ptr<std::byte, decltype(&std::free)> memory(
      static_cast<std::byte*>(std::aligned_alloc(plan::copy_alignment, size)), &std::free);
  std::fill_n(memory.get(), size, std::byte{0x5a});
  return measure_tier(*cpu_copy_engine({&store}), memory.get(), bytes, whole, work);
}

}  // namespace memo::exec
