// What checksums and encryption cost a tier: bytes written and read through each, on a tier in memory (the guard alone)
// and on one on the disk; seconds of a core are this process's own.
//   bench_tier_guards [FOLDER [MIB [ROUNDS]]]
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/interleaved.h"
#include "memo/exec/checksums.h"
#include "memo/exec/encryption.h"
#include "memo/exec/tier.h"

namespace memo {
namespace {

constexpr std::int64_t request = 16 << 20;

double cores() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

using Store = std::unique_ptr<exec::TierStore>;

Store guarded(Store store, const std::string& guards) {
  if (guards.find("encryption") != std::string::npos) store = *exec::encrypted(std::move(store));
  if (guards.find("checksums") != std::string::npos) store = exec::checksummed(std::move(store), "disk");
  return store;
}

Status run(const Path& folder, std::int64_t bytes, int rounds) {
  const std::shared_ptr<std::byte> memory(static_cast<std::byte*>(std::aligned_alloc(4096, request)), std::free);
  for (std::int64_t i = 0; i < request; ++i) memory.get()[i] = static_cast<std::byte>(i * 7919 >> 5);
  struct Row {
    std::string tier, guards;
    Store store;
    double write_cores = HUGE_VAL, read_cores = HUGE_VAL;  // the least of all rounds
  };
  std::vector<Row> rows;
  for (const char* tier : {"memory", "disk"})
    for (const char* guards : {"none", "checksums", "encryption", "encryption, checksums"}) {
      Store store;
      if (std::string(tier) == "memory") {
        MEMO_TRY(store, exec::host_tier(Bytes(bytes)));
      } else {
        MEMO_TRY(store, exec::disk_tier(folder, Bytes(bytes)));
      }
      rows.push_back({tier, guards, guarded(std::move(store), guards)});
    }
  std::vector<std::function<void()>> works;
  Status status;
  for (Row& row : rows)
    for (const bool writes : {true, false})
      works.emplace_back([&, writes] {
        const double before = cores();
        for (std::int64_t at = 0; at < bytes && status; at += request)
          status = writes ? row.store->write(at, memory.get(), request) : row.store->read(at, memory.get(), request);
        double& least = writes ? row.write_cores : row.read_cores;
        least = std::min(least, cores() - before);
      });
  const std::vector<double> times = interleaved(rounds, works);
  MEMO_CHECKED(status);
  fmt::print(
      "| tier | guards | write GB/s | s of a core a GB | read GB/s | s of a core a GB |\n|---|---|---|---|---|---|\n");
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  for (std::size_t i = 0; i < rows.size(); ++i)
    fmt::print("| {} | {} | {:.2f} | {:.3f} | {:.2f} | {:.3f} |\n", rows[i].tier, rows[i].guards,
               gigabytes / times[2 * i], rows[i].write_cores / gigabytes, gigabytes / times[2 * i + 1],
               rows[i].read_cores / gigabytes);
  return {};
}

}  // namespace
}  // namespace memo

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "/var/tmp";
  const std::int64_t mib = argc > 2 ? std::atoll(argv[2]) / 16 * 16 : 256;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  const memo::Status status = memo::run(folder, mib << 20, rounds);
  if (!status) fmt::print(stderr, "{}\n", status.error().message);
  return status ? 0 : 1;
}
