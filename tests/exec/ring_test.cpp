// Transfers that the kernel cuts short, delays or ends early. Pipes do that by nature: a read returns what is there.
#include "memo/exec/ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "random_bytes.h"

namespace memo::exec {
namespace {

constexpr auto out = plan::Direction::out, in = plan::Direction::in;

struct Pipe {
  explicit Pipe(int flags = 0) { EXPECT_EQ(::pipe2(ends, flags), 0); }
  ~Pipe() {
    ::close(ends[0]);
    if (ends[1] >= 0) ::close(ends[1]);
  }
  int ends[2] = {-1, -1};
};

struct TemporaryFile {
  TemporaryFile() : fd(::mkstemp(name)) { ::unlink(name); }
  ~TemporaryFile() { ::close(fd); }
  char name[32] = "/var/tmp/memo-ring-XXXXXX";
  int fd;
};

// A writer that feeds a pipe in odd bits with pauses.
std::thread feed(int fd, const std::vector<std::byte>& bytes) {
  return std::thread([fd, &bytes] {
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t bit = std::min<std::size_t>(bytes.size() - at, 1 + at % 50021);
      const ssize_t n = ::write(fd, bytes.data() + at, bit);
      if (n > 0) at += static_cast<std::size_t>(n);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
}

TEST(Ring, ShortReadsAreContinued) {
  for (const int flags : {0, O_NONBLOCK}) {  // older kernels answer EAGAIN to the second
    Pipe pipe;
    EXPECT_EQ(::fcntl(pipe.ends[0], F_SETFL, flags), 0);
    const auto sent = random_bytes(1, 600'000);  // one piece: pieces of a pipe could change places
    std::thread writer = feed(pipe.ends[1], sent);
    std::vector<std::byte> got(sent.size());
    Ring ring;
    const auto outcome = ring.transfer(in, pipe.ends[0], 0, got.data(), static_cast<std::int64_t>(got.size()));
    writer.join();
    EXPECT_EQ(outcome.error, 0);
    EXPECT_EQ(got, sent);
  }
}

TEST(Ring, ShortWritesAreContinued) {
  Pipe pipe(O_NONBLOCK);  // 64 KiB fit at a time
  auto sent = random_bytes(2, 600'000);
  std::vector<std::byte> got;
  std::thread reader([&] {
    std::vector<std::byte> bit(50021);
    while (got.size() < sent.size()) {
      const ssize_t n = ::read(pipe.ends[0], bit.data(), bit.size());
      if (n > 0) got.insert(got.end(), bit.begin(), bit.begin() + n);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  Ring ring;
  const auto outcome = ring.transfer(out, pipe.ends[1], 0, sent.data(), static_cast<std::int64_t>(sent.size()));
  reader.join();
  EXPECT_EQ(outcome.error, 0);
  EXPECT_EQ(got, sent);
}

TEST(Ring, AFileThatEndsEarlyIsAnErrorAtItsEnd) {
  const TemporaryFile file;
  auto bytes = random_bytes(3, 5'000'000);
  Ring ring;
  ASSERT_EQ(ring.transfer(out, file.fd, 1000, bytes.data(), 5'000'000).error, 0);
  ASSERT_EQ(::ftruncate(file.fd, 1000 + 4'500'000), 0);
  const auto outcome = ring.transfer(in, file.fd, 1000, bytes.data(), 5'000'000);
  EXPECT_EQ(outcome.error, ENODATA);
  EXPECT_EQ(outcome.offset, 1000 + 4'500'000);
}

TEST(Ring, AFailureIsReportedAndTheRingGoesOn) {
  const TemporaryFile file;
  auto bytes = random_bytes(4, 20'000'000);
  Ring ring;
  const auto refused = ring.transfer(out, -1, 77, bytes.data(), 20'000'000);
  EXPECT_EQ(refused.error, EBADF);
  EXPECT_EQ(ring.transfer(out, file.fd, 0, bytes.data(), 20'000'000).error, 0);
  std::vector<std::byte> got(bytes.size());
  EXPECT_EQ(ring.transfer(in, file.fd, 0, got.data(), 20'000'000).error, 0);
  EXPECT_EQ(got, bytes);
}

TEST(Ring, NothingIsDoneForNoBytes) {
  Ring ring;
  EXPECT_EQ(ring.transfer(out, -1, 0, nullptr, 0).error, 0);
}

// As the default seccomp profiles of container runtimes do.
void forbid_io_uring() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter{.len = 4, .filter = program};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

TEST(RingDeathTest, WithoutIoUringTransfersGoOneRequestAtATime) {
  const auto in_a_container = [] {
    forbid_io_uring();
    io_uring probe{};
    if (io_uring_queue_init(1, &probe, 0) != -EPERM) std::exit(1);
    const TemporaryFile file;
    auto bytes = random_bytes(5, 5'000'000);
    std::vector<std::byte> got(bytes.size());
    Ring ring;
    if (ring.transfer(out, file.fd, 1000, bytes.data(), 5'000'000).error != 0) std::exit(2);
    if (ring.transfer(in, file.fd, 1000, got.data(), 5'000'000).error != 0 || got != bytes) std::exit(3);
    const auto past_end = ring.transfer(in, file.fd, 2000, got.data(), 5'000'000);
    if (past_end.error != ENODATA || past_end.offset != 5'001'000) std::exit(4);
    if (ring.transfer(out, -1, 0, bytes.data(), 4096).error != EBADF) std::exit(5);
    std::exit(0);
  };
  EXPECT_EXIT(in_a_container(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace memo::exec
