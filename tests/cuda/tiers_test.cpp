// The tiers' contract for host memory that is registered with the GPU.
#include "tests/cuda/backend.h"
#include "tests/exec/tier_contract.h"

namespace memo::exec {
namespace {

struct RegisteredKind : TierKind {
  RegisteredKind() : TierKind(1) { refusal = gpu.refusal; }
  cuda::CudaBackend gpu;
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) override { return cuda::host_tier(*gpu.device, bytes); }
};
INSTANTIATE_TEST_SUITE_P(Cuda, TierContract, testing::Values(named<TierKind, RegisteredKind>("registered")), NameOf());

}  // namespace

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FailingTierContract);  // memory does not fail

}  // namespace memo::exec
