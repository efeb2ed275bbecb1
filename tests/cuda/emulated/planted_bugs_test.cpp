// The emulation finds what a GPU shows rarely, and then as a wrong loss: orders that are missing. A bug is planted by
// leaving out one call of the engine, so that the sources under test are those that ship, or in the program.
#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "memo/check/validate.h"
#include "tests/cuda/emulated/gpu.h"
#include "tests/cuda/pattern_step.h"
#include "tests/cuda/small_plans.h"

namespace memo::cuda::emulated {
namespace {

using plan::Direction;

enum class Tier { registered, staged };
using Plant = std::function<void(Gpu&)>;

// Wrong words of two steps, planned as `plan` says and played as `program` does.
std::int64_t wrong_words(const plan::Plan& plan, const plan::Program& program, Tier kind, const Plant& plant) {
  Gpu gpu;
  gpu.staging = {Bytes(8192), 2};
  const Bytes bytes = plan.program.tier_bytes[0];
  const auto tier = kind == Tier::registered ? gpu.host_tier(bytes) : sure(exec::host_tier(bytes));
  const auto engine = gpu.engine({tier.get()});
  PatternStep step(gpu, plan, *tier);
  sure(check(cudaStreamSynchronize(gpu.device->compute()), "begin"));
  plant(gpu);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(step.play(*engine, program));
  return step.wrong;
}

struct Bug {
  const char* name;
  Tier tier;
  Plant paces, bug;
};

class PlantedBug : public testing::TestWithParam<Bug> {};

Plant paces(Pace compute, Pace out, Pace in) {
  return [=](Gpu& gpu) { gpu.set_paces(compute, out, in); };
}

TEST_P(PlantedBug, IsFound) {
  const Bug& it = GetParam();
  const plan::Plan plan = swapped_plan(1);
  EXPECT_EQ(wrong_words(plan, plan.program, it.tier, it.paces), 0) << "without the bug";
  EXPECT_GT(wrong_words(plan, plan.program, it.tier,
                        [&](Gpu& gpu) {
                          it.paces(gpu);
                          it.bug(gpu);
                        }),
            0);
}

INSTANTIATE_TEST_SUITE_P(
    Cuda, PlantedBug,
    testing::Values(Bug{"AStagingSlotIsReusedBeforeItsCopyToTheGpuEnds", Tier::staged, paces(prompt, prompt, late),
                        [](Gpu& gpu) { omit("cudaEventSynchronize", gpu.device->in()); }},
                    Bug{"AStagingSlotIsReadBeforeItsCopyFromTheGpuEnds", Tier::staged, paces(prompt, late, prompt),
                        [](Gpu& gpu) { omit("cudaEventSynchronize", gpu.device->out()); }},
                    Bug{"APrefetchStartsBeforeItsWriteEnds", Tier::registered, paces(prompt, late, prompt),
                        [](Gpu& gpu) { omit("cudaStreamWaitEvent", gpu.device->in()); }},
                    Bug{"AStagedPrefetchOverwritesWhatComputeStillReads", Tier::staged, paces(late, prompt, prompt),
                        [](Gpu& gpu) { omit("cudaStreamWaitEvent", gpu.device->in()); }},
                    Bug{"ACopyOutStartsBeforeItsTensorIsWritten", Tier::registered, paces(late, prompt, prompt),
                        [](Gpu& gpu) { omit("cudaStreamWaitEvent", gpu.device->out()); }},
                    Bug{"AStagedCopyOutStartsBeforeItsTensorIsWritten", Tier::staged, paces(late, prompt, prompt),
                        [](Gpu& gpu) { omit("cudaStreamWaitEvent", gpu.device->out()); }},
                    Bug{"AnEventIsRecordedBeforeTheCopyInThatItStandsFor", Tier::registered, paces(late, late, late),
                        [](Gpu& gpu) { record_early(gpu.device->in()); }},
                    Bug{"AnEventIsRecordedBeforeTheCopyOutThatItStandsFor", Tier::registered, paces(late, late, late),
                        [](Gpu& gpu) { record_early(gpu.device->out()); }},
                    Bug{"AnEventIsRecordedBeforeTheWorkThatItStandsFor", Tier::registered, paces(late, prompt, prompt),
                        [](Gpu& gpu) { record_early(gpu.device->compute()); }},
                    Bug{"AFreedSlotIsReadByACopyOut", Tier::registered, paces(prompt, late, prompt),
                        [](Gpu& gpu) { omit("cudaStreamWaitEvent", gpu.device->compute()); }},
                    Bug{"ASlotIsReadBeforeItIsFilled", Tier::staged, paces(prompt, prompt, late),
                        [](Gpu& gpu) { omit("cudaStreamWaitEvent", gpu.device->compute()); }}),
    [](const auto& info) { return info.param.name; });

// The same in programs, as a planner that errs would write them.
class PlantedInAProgram : public testing::Test {
 protected:
  // Calls `change` with each fetch and the copy out of what it fetches.
  template <class Change>
  void change_fetched(const Change& change) {
    for (plan::Copy& in : wrong.program.copies)
      for (plan::Copy& out : wrong.program.copies)
        if (in.direction == Direction::in && out.direction == Direction::out && tensor(in) == tensor(out))
          change(in, out);
  }
  void expect_found(const Plant& plant) {
    EXPECT_EQ(wrong_words(right, right.program, Tier::registered, plant), 0) << "without the bug";
    EXPECT_GT(wrong_words(right, wrong.program, Tier::registered, plant), 0);
    EXPECT_FALSE(check::validate(wrong).empty()) << "and the validator names it";
  }
  [[nodiscard]] plan::TensorIndex tensor(const plan::Copy& copy) const {
    return right.program.residencies[copy.residency].tensor;
  }

  plan::Plan right = swapped_plan(1), wrong = right;
};

TEST_F(PlantedInAProgram, APrefetchThatStartsBeforeItsWriteEndsIsFound) {
  int changed = 0;
  change_fetched([&](plan::Copy& in, const plan::Copy& out) { changed += std::exchange(in.at, out.at) != out.at; });
  ASSERT_GT(changed, 0);
  expect_found(paces(prompt, late, prompt));
}

TEST_F(PlantedInAProgram, AFreedSlotThatIsReadIsFound) {
  int changed = 0;
  change_fetched([&](const plan::Copy& in, plan::Copy& out) { changed += std::exchange(out.before, in.at) != in.at; });
  ASSERT_GT(changed, 0);
  expect_found(paces(prompt, late, prompt));
}

}  // namespace
}  // namespace memo::cuda::emulated
