// Values from /proc, /sys and cgroups, and short measurements.
#include "memo/cli/machine.h"

#include <fmt/format.h>
#include <liburing.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <numeric>
#include <sstream>
#include <thread>
#include <vector>

#include "memo/exec/tier.h"

namespace memo::cli {
namespace {

constexpr Bytes test_size(256 << 20);
constexpr Bytes request(8 << 20);

std::string text_of(const char* file) {
  const Result<std::string> text = read_text(file);
  return text ? *text : std::string();
}

// "MemAvailable:   24216916 kB"
Bytes meminfo(const std::string& text, const std::string& key) {
  const std::size_t at = text.find(key + ":");
  if (at == std::string::npos) return {};
  std::istringstream line(text.substr(at + key.size() + 1));
  std::int64_t kilobytes = 0;
  line >> kilobytes;
  return Bytes(kilobytes * 1024);
}

// Version 2 of cgroups, then 1; "max" or a number above the machine's memory means no limit.
std::optional<Bytes> container_limit(Bytes total) {
  for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::istringstream text(text_of(file));
    std::int64_t limit = 0;
    if (text >> limit && Bytes(limit) < total) return Bytes(limit);
  }
  return {};
}

// "always [madvise] never"
std::string chosen(const std::string& text) {
  const std::size_t open = text.find('['), close = text.find(']');
  return open == std::string::npos || close == std::string::npos ? "" : text.substr(open + 1, close - open - 1);
}

int numa_nodes() {
  int nodes = 0;
  while (std::filesystem::exists("/sys/devices/system/node/node" + std::to_string(nodes))) ++nodes;
  return std::max(nodes, 1);
}

bool has_io_uring() {
  io_uring ring{};
  if (io_uring_queue_init(2, &ring, 0) != 0) return false;
  io_uring_queue_exit(&ring);
  return true;
}

BytesPerSecond measure_memory_copy() {
  const auto bytes = static_cast<std::size_t>(test_size.value());
  std::vector<char> from(bytes, 1), to(bytes, 2);  // written to, so that all pages exist
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    std::memcpy(to.data(), from.data(), bytes);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    from[static_cast<std::size_t>(i)] = to[bytes - 1];  // uses the copy
  }
  return BytesPerSecond(static_cast<double>(bytes) / best);
}

// Some milliseconds of multiply-adds in registers.
void compute() {
  float lanes[64];
  std::fill(std::begin(lanes), std::end(lanes), 1.F);
  for (int i = 0; i < 400'000; ++i)
    for (float& lane : lanes) lane = lane * 0.999F + 0.001F;
  static std::atomic<float> sink;
  sink = std::accumulate(std::begin(lanes), std::end(lanes), 0.F);
}

void compute_on_all(int cores) {
  std::vector<std::jthread> threads;
  for (int i = 1; i < cores; ++i) threads.emplace_back(compute);
  compute();
}

}  // namespace

Memory look_at_memory() {
  Memory memory;
  const std::string text = text_of("/proc/meminfo");
  memory.total = meminfo(text, "MemTotal");
  memory.available = meminfo(text, "MemAvailable");
  memory.limit = container_limit(memory.total);
  rlimit locked{};
  if (::getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY)
    memory.locked_limit = Bytes(static_cast<std::int64_t>(locked.rlim_cur));
  std::error_code error;
  const std::filesystem::space_info shared = std::filesystem::space("/dev/shm", error);
  if (!error) memory.shared = Bytes(static_cast<std::int64_t>(shared.capacity));
  return memory;
}

// Containers may lack the file, Windows' Linux has its GPU's device only.
bool has_nvidia_driver() {
  constexpr const char* signs[] = {"/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"};
  return std::ranges::any_of(signs, [](const char* sign) { return std::filesystem::exists(sign); });
}

bool has_nvme() {
  std::error_code error;
  return std::ranges::any_of(std::filesystem::directory_iterator("/sys/block", error),
                             [](const auto& disk) { return disk.path().filename().string().starts_with("nvme"); });
}

Machine look_at_machine() {
  Machine machine;
  machine.cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  machine.memory = look_at_memory();
  machine.memory_copy = measure_memory_copy();
  machine.numa_nodes = numa_nodes();
  machine.huge_pages = chosen(text_of("/sys/kernel/mm/transparent_hugepage/enabled"));
  machine.io_uring = has_io_uring();
  machine.nvidia = has_nvidia_driver();
  return machine;
}

Status keep_memory_from_core_dumps() {
  constexpr const char* filter = "/proc/self/coredump_filter";
  std::ofstream file(filter);
  file << "0" << std::flush;
  return file ? Status() : run_time_error(fmt::format("memory.core_dumps = false: cannot write {}", filter));
}

Result<Disk> measure_disk(const Path& folder, int cores) {
  Disk disk;
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(folder, error);
  if (error) return bad_input(folder.string() + ": " + error.message());
  disk.free = Bytes(static_cast<std::int64_t>(space.available));
  MEMO_TRY(const std::unique_ptr<exec::TierStore> store, exec::disk_tier(folder, test_size));
  const auto work = [cores] { compute_on_all(cores); };
  MEMO_TRY(disk.rates, exec::measure_tier(*store, test_size, request, work));
  std::vector<std::jthread> busy;
  for (int i = 0; i < cores; ++i)
    busy.emplace_back([](const std::stop_token& stop) {
      while (!stop.stop_requested()) compute();
    });
  MEMO_TRY(disk.rates_with_compute, exec::measure_tier(*store, test_size, request, work));
  return disk;
}

}  // namespace memo::cli
