// The stack of decorators around a tier, innermost first: faults, encryption, watchdog, checksums, a note of failures.
#include "memo/exec/tiers.h"

#include "memo/exec/checksums.h"
#include "memo/exec/encryption.h"

namespace memo::exec {
namespace {

// Sets a flag when an operation fails.
class NotedTier final : public TierStore {
 public:
  NotedTier(std::unique_ptr<TierStore> store, std::shared_ptr<std::atomic<bool>> failed)
      : store_(std::move(store)), failed_(std::move(failed)) {}
  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    return noted(store_->write(offset, from, bytes));
  }
  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    return noted(store_->read(offset, to, bytes));
  }
  [[nodiscard]] std::byte* pinned(std::int64_t offset, std::int64_t bytes) const override {
    return store_->pinned(offset, bytes);
  }

 private:
  Status noted(Status status) {
    if (!status) *failed_ = true;
    return status;
  }
  const std::unique_ptr<TierStore> store_;
  const std::shared_ptr<std::atomic<bool>> failed_;
};

Result<std::unique_ptr<TierStore>> open_store(const plan::Tier& tier, Bytes bytes, const job::MemoryLimits& memory,
                                              Backend& device) {
  if (tier.name == "host") return device.host_tier(bytes);
  if (!memory.disk) return bad_input("the plan uses a disk tier: set memory.disk to a folder");
  return disk_tier(*memory.disk, bytes);
}

Result<std::unique_ptr<TierStore>> open_tier(const plan::Tier& tier, Bytes bytes, const job::MemoryLimits& memory,
                                             Backend& device, const std::optional<Faults>& faults, Watchdog* dog,
                                             const std::shared_ptr<std::atomic<bool>>& failed) {
  MEMO_TRY(std::unique_ptr<TierStore> store, open_store(tier, bytes, memory, device));
  if (faults) store = std::make_unique<FaultyTier>(std::move(store), *faults);
  if (memory.encrypt && tier.name == "disk") {
    MEMO_TRY(store, encrypted(std::move(store)));
  }
  if (dog) store = watched(std::move(store), *dog, tier.name);
  const job::Checksums least = tier.name == "disk" ? job::Checksums::disk : job::Checksums::all;
  if (memory.checksums >= least) store = checksummed(std::move(store), tier.name);
  if (failed) store = std::make_unique<NotedTier>(std::move(store), failed);
  return store;
}

}  // namespace

Result<Tiers> open_tiers(const plan::Plan& plan, const job::MemoryLimits& memory, Backend& device,
                         const std::optional<Faults>& faults, Watchdog* dog,
                         const std::shared_ptr<std::atomic<bool>>& failed) {
  Tiers tiers;
  std::vector<TierStore*> addresses;
  for (std::size_t i = 0; i < plan.program.tier_bytes.size(); ++i) {
    const Bytes bytes = plan.program.tier_bytes[i];
    std::unique_ptr<TierStore>& store = tiers.stores.emplace_back();
    if (bytes > Bytes(0)) {
      MEMO_TRY(store, open_tier(plan.profile.tiers[i], bytes, memory, device, faults, dog, failed));
    }
    addresses.push_back(store.get());
  }
  MEMO_TRY(tiers.engine, device.copy_engine(std::move(addresses)));
  return tiers;
}

}  // namespace memo::exec
