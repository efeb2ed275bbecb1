// The staging thread: cuts copies into pieces, and runs each piece's two halves.
#include "memo/cuda/staging.h"

#include <algorithm>
#include <utility>

namespace memo::cuda {

Result<std::unique_ptr<Staging>> Staging::open(const Device& device, plan::Direction direction, const StagingSize& size,
                                               std::function<double()> now, Done done) {
  MEMO_TRY(HostMemory memory, HostMemory::map(device, size.slot * size.slots, "staging slots"));
  std::vector<Slot> slots;
  for (int i = 0; i < size.slots; ++i) {
    MEMO_TRY(Event moved, make_event(cudaEventDisableTiming | cudaEventBlockingSync));
    slots.push_back({memory.data() + (size.slot * i).value(), std::move(moved)});
  }
  const cudaStream_t stream = direction == plan::Direction::out ? device.out() : device.in();
  return std::unique_ptr<Staging>(new Staging(device.index(), stream, direction, size.slot, std::move(memory),
                                              std::move(slots), std::move(now), std::move(done)));
}

Staging::Staging(int gpu, cudaStream_t stream, plan::Direction direction, Bytes slot_bytes, HostMemory memory,
                 std::vector<Slot> slots, std::function<double()> now, Done done)
    : gpu_(gpu),
      stream_(stream),
      direction_(direction),
      slot_bytes_(slot_bytes),
      memory_(std::move(memory)),
      slots_(std::move(slots)),
      now_(std::move(now)),
      done_(std::move(done)),
      thread_([this] { work(); }) {}

Staging::~Staging() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Staging::put(const Job& job) {
  {
    const std::lock_guard lock(mutex_);
    queue_.emplace_back().job = job;
  }
  wake_.notify_one();
}

void Staging::work() {
  const Current there(gpu_);
  if (direction_ == plan::Direction::in) {
    while (const std::optional<Piece> piece = take(true)) {
      step(*piece, &Staging::from_tier);
      if (piece->last()) finish(*piece);
    }
    return;
  }
  std::deque<Piece> filling;  // slots that the GPU is filling, oldest first
  while (true) {
    while (filling.size() < slots_.size()) {
      const std::optional<Piece> piece = take(filling.empty());
      if (!piece) break;
      step(*piece, &Staging::to_slot);
      filling.push_back(*piece);
    }
    if (filling.empty()) return;
    const Piece oldest = filling.front();
    filling.pop_front();
    step(oldest, &Staging::to_tier);
    if (oldest.last()) finish(oldest);
  }
}

// Takes the next piece, with the next slot. None when there is no piece and the thread should not `sleep`, or must
// stop.
std::optional<Staging::Piece> Staging::take(bool sleep) {
  std::unique_lock lock(mutex_);
  if (sleep) wake_.wait(lock, [&] { return cut_ < queue_.size() || stopping_; });
  if (cut_ == queue_.size()) return {};
  Work& work = queue_[cut_];
  const std::int64_t left = work.job.request.bytes.value() - work.cut;
  const Piece piece{&work, work.cut, std::min(left, slot_bytes_.value()), &slots_[next_slot_++ % slots_.size()]};
  work.cut += piece.bytes;
  if (piece.last()) ++cut_;
  if (piece.first()) work.start = now_();
  return piece;
}

// After a failure, the rest of a copy is skipped.
void Staging::step(const Piece& piece, Status (Staging::*action)(const Piece&)) {
  if (piece.work->status) piece.work->status = (this->*action)(piece);
}

Status Staging::to_slot(const Piece& piece) {
  const Job& job = piece.work->job;
  if (piece.first()) MEMO_CHECKED(check(cudaStreamWaitEvent(stream_, job.after, 0), "order a copy"));
  MEMO_CHECKED(check(cudaMemcpyAsync(piece.slot->memory, job.request.device + piece.begin,
                                     static_cast<std::size_t>(piece.bytes), cudaMemcpyDeviceToHost, stream_),
                     "copy from the GPU"));
  return check(cudaEventRecord(piece.slot->moved.get(), stream_), "note the end of a copy");
}

Status Staging::to_tier(const Piece& piece) {
  const Job& job = piece.work->job;
  MEMO_CHECKED(check(cudaEventSynchronize(piece.slot->moved.get()), "wait for a copy from the GPU"));
  return job.tier->write(job.request.tier_offset.value() + piece.begin, piece.slot->memory, piece.bytes);
}

Status Staging::from_tier(const Piece& piece) {
  const Job& job = piece.work->job;
  MEMO_CHECKED(check(cudaEventSynchronize(piece.slot->moved.get()), "wait for a copy to the GPU"));
  MEMO_CHECKED(job.tier->read(job.request.tier_offset.value() + piece.begin, piece.slot->memory, piece.bytes));
  if (piece.first()) MEMO_CHECKED(check(cudaStreamWaitEvent(stream_, job.after, 0), "order a copy"));
  MEMO_CHECKED(check(cudaMemcpyAsync(job.request.device + piece.begin, piece.slot->memory,
                                     static_cast<std::size_t>(piece.bytes), cudaMemcpyHostToDevice, stream_),
                     "copy to the GPU"));
  MEMO_CHECKED(check(cudaEventRecord(piece.slot->moved.get(), stream_), "note the end of a copy"));
  return piece.last() ? check(cudaEventRecord(job.end, stream_), "note the end of a copy") : Status();
}

void Staging::finish(const Piece& piece) {
  const std::int64_t number = piece.work->job.number;
  const double start = piece.work->start;
  Status status = std::move(piece.work->status);
  {
    const std::lock_guard lock(mutex_);
    queue_.pop_front();
    --cut_;
  }
  done_(number, start, now_(), std::move(status));
}

}  // namespace memo::cuda
