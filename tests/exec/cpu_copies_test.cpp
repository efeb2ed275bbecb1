// The copy engine contract for the CPU's worker threads, with host memory and with a disk behind them.
#include "memo/exec/cpu_copies.h"

#include <cstdlib>
#include <cstring>

#include "tests/exec/copy_engine_contract.h"
#include "tests/exec/disk_folder.h"

namespace memo::exec {
namespace {

struct CpuBackend : CopyBackend {
  std::unique_ptr<CopyEngine> engine(std::vector<TierStore*> tiers) override {
    return cpu_copy_engine(std::move(tiers));
  }
  std::byte* memory(std::size_t bytes) override {
    auto* fresh = static_cast<std::byte*>(std::aligned_alloc(4096, bytes));
    allocated.emplace_back(fresh, std::free);
    return fresh;
  }
  void write(std::byte* to, std::span<const std::byte> from) override { std::memcpy(to, from.data(), from.size()); }
  std::vector<std::byte> read(const std::byte* from, std::size_t bytes) override { return {from, from + bytes}; }

  std::vector<std::unique_ptr<std::byte, decltype(&std::free)>> allocated;
};

struct CpuWithHostTier : CpuBackend {
  std::unique_ptr<TierStore> tier(Bytes bytes) override {
    auto made = host_tier(bytes);
    if (!made) refusal = made.error().message;
    return made ? *std::move(made) : nullptr;
  }
};

struct CpuWithDiskTier : CpuBackend {
  std::unique_ptr<TierStore> tier(Bytes bytes) override {
    if (folder.path().empty()) {
      refusal = "no folder takes a disk tier: " + folder.refusal();
      return nullptr;
    }
    auto made = disk_tier(folder.path(), bytes);
    EXPECT_TRUE(made) << made.error().message;
    return made ? *std::move(made) : nullptr;
  }
  DiskFolder folder;
};

INSTANTIATE_TEST_SUITE_P(Cpu, CopyEngineContract,
                         testing::Values(named<CopyBackend, CpuWithHostTier>("host"),
                                         named<CopyBackend, CpuWithDiskTier>("disk")),
                         NameOf());

}  // namespace
}  // namespace memo::exec
