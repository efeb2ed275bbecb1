// Copies of one direction between the GPU and a tier that it cannot reach. A thread moves them in pieces through slots
// of registered memory, so that the GPU fills (or empties) one slot while the tier works on another.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "memo/cuda/host_memory.h"
#include "memo/exec/executor.h"

namespace memo::cuda {

struct StagingSize {
  Bytes slot{std::int64_t{8} << 20};  // large enough for the disk tier's ring; a multiple of 4096
  int slots = 4;                      // per direction
};

class Staging {
 public:
  struct Job {
    exec::CopyRequest request;
    exec::TierStore* tier = nullptr;
    cudaEvent_t after = nullptr;  // the copy begins after this event
    cudaEvent_t end = nullptr;    // direction in: recorded after the copy
    std::int64_t number = 0;
  };
  // Called on the thread when a copy has ended (out), or when all its pieces were given to the stream (in).
  using Done = std::function<void(std::int64_t number, double start, double end, Status)>;

  // `now`: the clock for the times in `done`.
  static Result<std::unique_ptr<Staging>> open(const Device& device, plan::Direction direction, const StagingSize& size,
                                               std::function<double()> now, Done done);
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging();  // finishes the copies that were put

  void put(const Job& job);

 private:
  struct Slot {
    std::byte* memory = nullptr;
    Event moved;  // ends with the GPU's last copy to or from the slot
  };
  struct Work {
    Job job;
    std::int64_t cut = 0;  // bytes that were cut into pieces
    double start = 0;
    Status status;
  };
  struct Piece {
    Work* work = nullptr;
    std::int64_t begin = 0, bytes = 0;
    Slot* slot = nullptr;
    [[nodiscard]] bool first() const { return begin == 0; }
    [[nodiscard]] bool last() const { return begin + bytes == work->job.request.bytes.value(); }
  };

  Staging(int gpu, cudaStream_t stream, plan::Direction direction, Bytes slot_bytes, HostMemory memory,
          std::vector<Slot> slots, std::function<double()> now, Done done);
  void work();
  std::optional<Piece> take(bool sleep);
  Status to_slot(const Piece& piece);
  Status to_tier(const Piece& piece);
  Status from_tier(const Piece& piece);
  void step(const Piece& piece, Status (Staging::*action)(const Piece&));
  void finish(const Piece& piece);

  const int gpu_;
  const cudaStream_t stream_;
  const plan::Direction direction_;
  const Bytes slot_bytes_;
  const HostMemory memory_;
  std::vector<Slot> slots_;
  const std::function<double()> now_;
  const Done done_;
  std::size_t next_slot_ = 0;

  std::mutex mutex_;  // guards all members below, except the thread
  std::condition_variable wake_;
  std::deque<Work> queue_;  // in order; a copy stays until all its pieces are done
  std::size_t cut_ = 0;     // number of copies at its front that were cut whole
  bool stopping_ = false;
  std::thread thread_;  // last, since it uses the other members
};

}  // namespace memo::cuda
