// The copy engine of a GPU: a lane for each direction, and the moments of compute.
#include "memo/cuda/copies.h"

#include <utility>

#include "memo/base/check.h"
#include "memo/cuda/events.h"
#include "memo/cuda/lane.h"

namespace memo::cuda {
namespace {

using exec::Ticket;

class CudaCopyEngine final : public exec::CopyEngine {
 public:
  CudaCopyEngine(const Device& device, std::vector<exec::TierStore*> tiers, Clock clock, Moments moments, Event drained)
      : device_(device),
        tiers_(std::move(tiers)),
        clock_(std::move(clock)),
        moments_(std::move(moments)),
        drained_(std::move(drained)) {}
  CudaCopyEngine(const CudaCopyEngine&) = delete;
  CudaCopyEngine& operator=(const CudaCopyEngine&) = delete;
  ~CudaCopyEngine() override {
    if (out_ && in_) (void)drain();  // an error has no receiver any more
  }

  Status open(const StagingSize& staging) {
    MEMO_TRY(out_, Lane::open(device_, plan::Direction::out, tiers_, clock_, staging));
    MEMO_TRY(in_, Lane::open(device_, plan::Direction::in, tiers_, clock_, staging));
    return {};
  }

  // A ticket is the copy's number within its direction, times 2, plus the direction.
  Ticket start(const exec::CopyRequest& request, int index) override {
    const Current there(device_.index());
    MEMO_CHECK(0 <= request.tier && static_cast<std::size_t>(request.tier) < tiers_.size(), "a copy's tier exists");
    return lane(request.direction).start(request, index) * 2 + (request.direction == plan::Direction::in ? 1 : 0);
  }
  void submit() override {
    const Current there(device_.index());
    moments_.gather(clock_);
    out_->submit();
    in_->submit();
  }
  Status wait(Ticket ticket) override {
    const Current there(device_.index());
    submit();
    return (ticket % 2 == 1 ? in_ : out_)->wait(ticket / 2);
  }
  Status drain() override {
    const Current there(device_.index());
    submit();
    out_->settle();
    in_->settle();
    const Status streams = end_of_streams();
    const Status out = out_->finish(streams), in = in_->finish(streams), moments = moments_.finish(clock_);
    for (const Status* status : {&out, &in, &moments}) MEMO_CHECKED(*status);
    return clock_.anchor(device_.compute());
  }
  void note_moment() override {
    const Current there(device_.index());
    moments_.note(clock_);
  }
  std::vector<double> take_moments() override { return moments_.take(); }
  [[nodiscard]] double now() const override { return clock_.now(); }
  std::vector<exec::Span> take_spans(plan::Direction direction) override { return lane(direction).take_spans(); }

 private:
  Lane& lane(plan::Direction direction) { return direction == plan::Direction::out ? *out_ : *in_; }

  // Sleeps until the work of all three streams has ended.
  Status end_of_streams() {
    for (const cudaStream_t stream : {device_.compute(), device_.out(), device_.in()}) {
      MEMO_CHECKED(check(cudaEventRecord(drained_.get(), stream), "note the end of a step"));
      MEMO_CHECKED(check(cudaEventSynchronize(drained_.get()), "wait for the end of a step"));
    }
    return {};
  }

  const Device& device_;
  const std::vector<exec::TierStore*> tiers_;
  Clock clock_;
  Moments moments_;
  const Event drained_;
  std::unique_ptr<Lane> out_, in_;  // last, since their threads use the other members
};

}  // namespace

Result<std::unique_ptr<exec::CopyEngine>> copy_engine(const Device& device, std::vector<exec::TierStore*> tiers,
                                                      const StagingSize& staging) {
  const Current there(device.index());
  MEMO_TRY(Clock clock, Clock::start(device.compute()));
  MEMO_TRY(Moments moments, Moments::of(device.compute()));
  MEMO_TRY(Event drained, make_event(cudaEventDisableTiming | cudaEventBlockingSync));
  auto engine = std::make_unique<CudaCopyEngine>(device, std::move(tiers), std::move(clock), std::move(moments),
                                                 std::move(drained));
  MEMO_CHECKED(engine->open(staging));
  return engine;
}

}  // namespace memo::cuda
