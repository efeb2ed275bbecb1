// Cuts a transfer into pieces. Each slot carries one piece at a time, and takes the next when that is done.
#include "memo/exec/ring.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "memo/base/check.h"

namespace memo::exec {
namespace {

// On a cloud machine's virtual disk, 1 to 4 MiB and 2 to 8 requests in flight have the same rate within its noise; real
// NVMe wants several in flight.
constexpr unsigned depth = 8;
constexpr std::int64_t piece_bytes = std::int64_t{1} << 20;

struct Piece {
  std::int64_t begin = 0, bytes = 0;  // the part of the transfer that is still to move
};

bool transient(int error) { return error == EINTR || error == EAGAIN; }

// The rest of a transfer, and its result so far.
class Transfer {
 public:
  Transfer(std::int64_t offset, std::int64_t bytes) : offset_(offset), bytes_(bytes) {}

  Piece take_next() {
    const Piece piece{next_, std::min(piece_bytes, bytes_ - next_)};
    next_ += piece.bytes;
    return piece;
  }
  // Counts the result of a request for `piece`, as io_uring returns it. Returns what to request next: the rest of the
  // piece or the next piece; nothing after a failure.
  void advance(Piece& piece, std::int64_t result) {
    if (result > 0)
      piece = {piece.begin + result, piece.bytes - result};
    else if (!transient(static_cast<int>(-result)) && outcome_.error == 0)
      outcome_ = {.error = result == 0 ? ENODATA : static_cast<int>(-result), .offset = offset_ + piece.begin};
    if (outcome_.error != 0)
      piece.bytes = 0;
    else if (piece.bytes == 0)
      piece = take_next();
  }
  [[nodiscard]] Ring::Outcome outcome() const { return outcome_; }

 private:
  std::int64_t offset_, bytes_;
  std::int64_t next_ = 0;  // the first byte that no slot has taken
  Ring::Outcome outcome_;
};

}  // namespace

Ring::Ring() : granted_(io_uring_queue_init(depth, &ring_, 0) == 0) {}

Ring::~Ring() {
  if (granted_) io_uring_queue_exit(&ring_);
}

Ring::Outcome Ring::transfer(plan::Direction direction, int fd, std::int64_t offset, std::byte* memory,
                             std::int64_t bytes) {
  const bool out = direction == plan::Direction::out;
  Transfer transfer(offset, bytes);
  if (!granted_) {
    for (Piece piece = transfer.take_next(); piece.bytes > 0;) {
      const auto size = static_cast<std::size_t>(piece.bytes);
      const ssize_t moved = out ? ::pwrite(fd, memory + piece.begin, size, offset + piece.begin)
                                : ::pread(fd, memory + piece.begin, size, offset + piece.begin);
      transfer.advance(piece, moved < 0 ? -errno : moved);
    }
    return transfer.outcome();
  }

  const std::lock_guard lock(mutex_);
  std::array<Piece, depth> slots;
  unsigned in_flight = 0;
  const auto request = [&](std::size_t slot) {
    const Piece& piece = slots[slot];
    if (piece.bytes == 0) return;
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    MEMO_CHECK(sqe != nullptr, "the ring has an entry for each slot");
    const auto size = static_cast<unsigned>(piece.bytes);
    const auto at = static_cast<std::uint64_t>(offset + piece.begin);
    if (out)
      io_uring_prep_write(sqe, fd, memory + piece.begin, size, at);
    else
      io_uring_prep_read(sqe, fd, memory + piece.begin, size, at);
    io_uring_sqe_set_data64(sqe, slot);
    ++in_flight;
  };
  for (std::size_t slot = 0; slot < depth; ++slot) {
    slots[slot] = transfer.take_next();
    request(slot);
  }
  while (in_flight > 0) {
    const int submitted = io_uring_submit_and_wait(&ring_, 1);
    MEMO_CHECK(submitted >= 0 || transient(-submitted) || submitted == -ENOMEM, "the kernel takes the ring's requests");
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
      const auto slot = static_cast<std::size_t>(cqe->user_data);
      const int result = cqe->res;
      io_uring_cqe_seen(&ring_, cqe);
      --in_flight;
      transfer.advance(slots[slot], result);
      request(slot);
    }
  }
  return transfer.outcome();
}

}  // namespace memo::exec
