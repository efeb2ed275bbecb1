// The engine's promises and whole steps do not depend on how late the GPU's streams run.
#include <gmock/gmock.h>

#include <array>

#include "tests/cuda/emulated/gpu.h"
#include "tests/cuda/pattern_step.h"
#include "tests/cuda/small_plans.h"
#include "tests/exec/copy_engine_contract.h"

namespace memo::cuda::emulated {
namespace {

struct Paced : Gpu {
  explicit Paced(Pace pace) : Gpu({.pace = pace}) {}
};

// Host memory that is not registered: all goes through staging.
struct PacedWithStaging : Paced {
  explicit PacedWithStaging(Pace pace) : Paced(pace) { staging = {Bytes(16 * 4096), 2}; }
  std::unique_ptr<exec::TierStore> tier(Bytes bytes) override { return sure(exec::host_tier(bytes)); }
};

using exec::CopyBackend, exec::CopyEngineContract, exec::named;
INSTANTIATE_TEST_SUITE_P(CudaPaces, CopyEngineContract,
                         testing::Values(named<CopyBackend, Paced>("host_late", Pace::late),
                                         named<CopyBackend, PacedWithStaging>("staging_late", Pace::late),
                                         named<CopyBackend, Paced>("host_random", Pace::random),
                                         named<CopyBackend, PacedWithStaging>("staging_random", Pace::random)),
                         exec::NameOf());

using Paces = std::array<Pace, 3>;  // of compute, out, in

class StepAtPaces : public testing::TestWithParam<Paces> {};

std::int64_t wrong_words(const plan::Plan& plan, const Paces& paces, bool registered) {
  Gpu gpu({.seed = 7, .most_delay = std::chrono::microseconds(20)});
  gpu.staging = {Bytes(8192), 2};
  gpu.set_paces(paces[0], paces[1], paces[2]);
  const Bytes bytes = plan.program.tier_bytes[0];
  const auto tier = registered ? gpu.host_tier(bytes) : sure(exec::host_tier(bytes));
  const auto engine = gpu.engine({tier.get()});
  PatternStep step(gpu, plan, *tier);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(step.play(*engine));
  EXPECT_GT(step.checked, 100'000);
  return step.wrong;
}

TEST_P(StepAtPaces, IsRight) {
  for (const plan::Plan& plan : {swapped_plan(1), paged_plan(2)})
    for (const bool registered : {true, false}) EXPECT_EQ(wrong_words(plan, GetParam(), registered), 0) << registered;
}

constexpr auto random = Pace::random;
INSTANTIATE_TEST_SUITE_P(Cuda, StepAtPaces,
                         testing::Values(Paces{prompt, prompt, late}, Paces{prompt, late, prompt},
                                         Paces{prompt, late, late}, Paces{late, prompt, prompt},
                                         Paces{late, prompt, late}, Paces{late, late, prompt}, Paces{late, late, late},
                                         Paces{random, random, random}));

}  // namespace
}  // namespace memo::cuda::emulated
