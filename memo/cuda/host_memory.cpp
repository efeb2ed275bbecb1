// Maps, places, touches and registers host memory.
#include "memo/cuda/host_memory.h"

#include <fmt/format.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "memo/base/text.h"

namespace memo::cuda {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t small_page = 4096;

// Maps `bytes` at a multiple of a huge page. Newer kernels align large mappings so by themselves.
std::byte* map_aligned(std::size_t bytes) {
  const std::size_t more = bytes + huge_page;
  void* memory = ::mmap(nullptr, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(memory);
  const std::size_t head = (huge_page - reinterpret_cast<std::uintptr_t>(begin) % huge_page) % huge_page;
  const std::size_t kept = (bytes + small_page - 1) / small_page * small_page;
  if (head > 0) ::munmap(begin, head);
  if (more > head + kept) ::munmap(begin + head + kept, more - head - kept);
  return begin + head;
}

// Prefers the node without binding to it: a tier larger than its node goes on to the next node instead of failing.
// Where the kernel or a container forbids this, it has no effect, and the kernel chooses the node.
void prefer_node(std::byte* memory, std::size_t bytes, int node) {
  constexpr int word = 8 * sizeof(unsigned long);
  std::array<unsigned long, 16> mask{};
  if (node < 0 || node >= word * static_cast<int>(mask.size())) return;
  mask[static_cast<std::size_t>(node / word)] = 1UL << (node % word);
  (void)::syscall(SYS_mbind, memory, bytes, MPOL_PREFERRED, mask.data(), mask.size() * word, 0);
}

// Brings every page into being. The kernel clears each page, which one thread does at a few GB a second.
void touch(std::byte* memory, std::size_t bytes) {
  constexpr std::size_t share = std::size_t{256} << 20;  // too little work for a thread of its own
  const std::size_t most = std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
  const std::size_t count = std::clamp<std::size_t>(bytes / share, 1, most);
  const std::size_t pages = (bytes + small_page - 1) / small_page;
  const auto write = [=](std::size_t part) {
    for (std::size_t page = pages * part / count; page < pages * (part + 1) / count; ++page)
      *static_cast<volatile std::byte*>(memory + page * small_page) = std::byte{0};
  };
  std::vector<std::thread> others;
  for (std::size_t part = 1; part < count; ++part) others.emplace_back(write, part);
  write(0);
  for (std::thread& other : others) other.join();
}

std::string locked_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return format_bytes(Bytes(static_cast<std::int64_t>(limit.rlim_cur)));
}

}  // namespace

void UnmapHost::operator()(std::byte* memory) const {
  if (registered) cudaHostUnregister(memory);
  ::munmap(memory, bytes);
}

Result<HostMemory> HostMemory::map(const Device& device, Bytes bytes, std::string_view purpose) {
  const auto size = static_cast<std::size_t>(bytes.value());
  HostMemory result;
  if (size == 0) return result;
  std::byte* memory = map_aligned(size);
  if (memory == nullptr)
    return run_time_error(fmt::format("{}: cannot map {} of host memory: {}; lower [memory] host_limit", purpose,
                                      format_bytes(bytes), std::strerror(errno)));
  result.memory_ = {memory, UnmapHost{size}};
  (void)::madvise(memory, size, MADV_HUGEPAGE);  // advice; small pages work too
  prefer_node(memory, size, device.host_node());
  touch(memory, size);
  const Current there(device.index());
  const cudaError_t registered = cudaHostRegister(memory, size, cudaHostRegisterDefault);
  if (registered == cudaErrorMemoryAllocation || registered == cudaErrorOperatingSystem) {
    (void)cudaGetLastError();
    return run_time_error(
        fmt::format("{}: cannot register {} of host memory with the GPU ({}); the limit of locked memory is {}: raise "
                    "it (ulimit -l unlimited; of a container --ulimit memlock=-1), or lower [memory] host_limit",
                    purpose, format_bytes(bytes), cudaGetErrorName(registered), locked_limit()));
  }
  MEMO_CHECKED(check(registered, "register host memory"));
  result.memory_.get_deleter().registered = true;
  return result;
}

Result<std::unique_ptr<exec::TierStore>> host_tier(const Device& device, Bytes bytes) {
  MEMO_TRY(HostMemory memory, HostMemory::map(device, bytes, "host tier"));
  const auto owner = std::make_shared<HostMemory>(std::move(memory));
  return exec::memory_tier(std::shared_ptr<std::byte>(owner, owner->data()), bytes, true);
}

}  // namespace memo::cuda
