// The copy engine contract for the GPU: with registered host memory, with a disk behind large and small staging slots.
#include "memo/cuda/copies.h"

#include "tests/cuda/backend.h"
#include "tests/exec/copy_engine_contract.h"
#include "tests/exec/disk_folder.h"

namespace memo::exec {
namespace {

struct CudaWithDiskTier : cuda::CudaBackend {
  std::unique_ptr<TierStore> tier(Bytes bytes) override {
    if (folder.path().empty()) {
      refusal = "no folder takes a disk tier: " + folder.refusal();
      return nullptr;
    }
    return cuda::sure(disk_tier(folder.path(), bytes));
  }
  DiskFolder folder;
};

// Most copies are cut into many pieces.
struct CudaWithSmallSlots : CudaWithDiskTier {
  CudaWithSmallSlots() { staging = {Bytes(16 * 4096), 2}; }
};

INSTANTIATE_TEST_SUITE_P(Cuda, CopyEngineContract,
                         testing::Values(named<CopyBackend, cuda::CudaBackend>("host"),
                                         named<CopyBackend, CudaWithDiskTier>("disk"),
                                         named<CopyBackend, CudaWithSmallSlots>("disk_and_small_slots")),
                         NameOf());

}  // namespace
}  // namespace memo::exec
