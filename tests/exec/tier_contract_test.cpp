// The tiers' contract for all of them: memory, disk, what checks or ciphers or watches what passes, alone and on top of
// each other as a run opens them.
#include "tests/exec/tier_contract.h"

#include "memo/exec/checksums.h"
#include "memo/exec/encryption.h"
#include "memo/exec/faulty_tier.h"
#include "memo/exec/tiers.h"
#include "memo/exec/watchdog.h"
#include "tests/exec/disk_folder.h"

namespace memo::exec {
namespace {

struct HostKind : TierKind {
  HostKind() : TierKind(1) {}
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) override { return host_tier(bytes); }
};

// As a GPU registers it.
struct PinnedKind : HostKind {
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) override {
    MEMO_TRY(std::shared_ptr<TierStore> mapped, host_tier(bytes));  // refuses what cannot be had
    std::shared_ptr<std::byte> memory(new std::byte[static_cast<std::size_t>(bytes.value())],
                                      std::default_delete<std::byte[]>());
    return memory_tier(std::move(memory), bytes, true);
  }
};

// A tier that fails when it is told to.
class BreakableTier final : public TierStore {
 public:
  explicit BreakableTier(std::unique_ptr<TierStore> store) : store_(std::move(store)) {}
  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    if (writes_fail) return run_time_error("breakable tier: no room");
    return store_->write(offset, from, bytes);
  }
  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    if (reads_fail) return run_time_error("breakable tier: no disk");
    return store_->read(offset, to, bytes);
  }
  [[nodiscard]] std::byte* pinned(std::int64_t offset, std::int64_t bytes) const override {
    return store_->pinned(offset, bytes);
  }
  bool writes_fail = false, reads_fail = false;

 private:
  std::unique_ptr<TierStore> store_;
};

// What stands around another tier, here one of pinned memory that can be broken.
struct AroundKind : FailingTierKind {
  AroundKind() : FailingTierKind(4096) {}
  BreakableTier* inner = nullptr;
  Result<std::unique_ptr<TierStore>> open_inner(Bytes bytes) {
    MEMO_TRY(auto store, PinnedKind().open(bytes));
    auto made = std::make_unique<BreakableTier>(std::move(store));
    inner = made.get();
    return made;
  }
  void fail_writes() override { inner->writes_fail = true; }
  void fail_reads() override { inner->reads_fail = true; }
  void heal() override { inner->writes_fail = inner->reads_fail = false; }
};

struct ChecksummedKind : AroundKind {
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) override {
    MEMO_TRY(auto store, open_inner(bytes));
    return checksummed(std::move(store), "disk");
  }
};

struct EncryptedKind : AroundKind {
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) override {
    MEMO_TRY(auto store, open_inner(bytes));
    return encrypted(std::move(store));
  }
};

struct WatchedKind : AroundKind {
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) override {
    MEMO_TRY(auto store, open_inner(bytes));
    return watched(std::move(store), dog, "disk");
  }
  Watchdog dog{Seconds(3600), [](const std::string& what) { ADD_FAILURE() << what; }};
};

struct FaultlessKind : AroundKind {
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) override {
    MEMO_TRY(auto store, open_inner(bytes));
    return std::make_unique<FaultyTier>(std::move(store), Faults{.rate = 0});
  }
};

struct DiskKind : TierKind {
  DiskKind() : TierKind(4096) {
    if (folder.path().empty()) refusal = "no folder takes a disk tier: " + folder.refusal();
  }
  DiskFolder folder;
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) override { return disk_tier(folder.path(), bytes); }
};

// The disk tier of a plan with all that a job may ask for, as `open_tiers` puts it together.
struct GuardedDiskKind : DiskKind {
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) override {
    struct NoDevice final : Backend {
      Result<std::unique_ptr<TierStore>> host_tier(Bytes size) override { return exec::host_tier(size); }
      Result<std::unique_ptr<CopyEngine>> copy_engine(std::vector<TierStore*>) override { return nullptr; }
      ArenaBytes& bytes() override { return arena; }
      ArenaBytes arena;
    } device;
    plan::Plan plan;
    plan.profile.tiers.emplace_back().name = "disk";
    plan.program.tier_bytes = {bytes};
    job::MemoryLimits memory;
    memory.disk = folder.path();
    memory.encrypt = true;
    memory.checksums = job::Checksums::all;
    MEMO_TRY(Tiers tiers,
             open_tiers(plan, memory, device, Faults{.rate = 0}, &dog, std::make_shared<std::atomic<bool>>(false)));
    return std::move(tiers.stores.front());
  }
  Watchdog dog{Seconds(3600), [](const std::string& what) { ADD_FAILURE() << what; }};
};

using testing::Values;
INSTANTIATE_TEST_SUITE_P(Tiers, TierContract,
                         Values(named<TierKind, HostKind>("host"), named<TierKind, PinnedKind>("pinned"),
                                named<TierKind, DiskKind>("disk"), named<TierKind, ChecksummedKind>("checksummed"),
                                named<TierKind, EncryptedKind>("encrypted"), named<TierKind, WatchedKind>("watched"),
                                named<TierKind, FaultlessKind>("faultless"),
                                named<TierKind, GuardedDiskKind>("guarded_disk")),
                         NameOf());
INSTANTIATE_TEST_SUITE_P(Tiers, FailingTierContract,
                         Values(named<FailingTierKind, ChecksummedKind>("checksummed"),
                                named<FailingTierKind, EncryptedKind>("encrypted"),
                                named<FailingTierKind, WatchedKind>("watched"),
                                named<FailingTierKind, FaultlessKind>("faultless")),
                         NameOf());

// A device that copied to and from pinned memory by itself would pass by them. (A watched tier lets it: what moves is
// seen by the watched engine.)
class TiersAround : public Contract<AroundKind> {};
TEST_P(TiersAround, ATierThatLooksAtWhatPassesIsNotPassedBy) {
  const auto tier = kind->open(Bytes(4096));
  ASSERT_TRUE(tier);
  ASSERT_NE(kind->inner->pinned(0, 4096), nullptr);
  EXPECT_EQ((*tier)->pinned(0, 4096), nullptr);
}
INSTANTIATE_TEST_SUITE_P(Tiers, TiersAround,
                         Values(named<AroundKind, ChecksummedKind>("checksummed"),
                                named<AroundKind, EncryptedKind>("encrypted"),
                                named<AroundKind, FaultlessKind>("faultless")),
                         NameOf());

}  // namespace
}  // namespace memo::exec
