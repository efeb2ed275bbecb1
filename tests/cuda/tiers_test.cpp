// The tiers' contract for host memory that is registered with the GPU.
#include "tests/cuda/backend.h"
#include "tests/exec/tier_contract.h"

namespace memo::exec {
namespace {

struct RegisteredKind {
  static constexpr std::int64_t alignment = 1;
  cuda::CudaBackend gpu;
  std::string refusal = gpu.refusal;
  Result<std::unique_ptr<TierStore>> open(Bytes bytes) { return cuda::host_tier(*gpu.device, bytes); }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Cuda, TierContract, RegisteredKind);

}  // namespace

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FailingTierContract);  // memory does not fail

}  // namespace memo::exec
