// A plan made ready to run: the arena with the model's state in its fixed regions, the tiers, the copy streams.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memo/exec/checked_step.h"
#include "memo/exec/executor.h"
#include "memo/exec/faulty_tier.h"
#include "memo/exec/watchdog.h"
#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"
#include "memo/libtorch/model/model_state.h"
#include "memo/libtorch/model/sample.h"
#include "memo/plan/plan.h"

namespace memo::libtorch {

struct StepResult {
  double loss = 0;           // mean per predicted token, nats
  double gradient_norm = 0;  // of all gradients, before clipping
  Seconds seconds;           // the whole step
  exec::StepReport report;   // sums over the sequences, but spans of the last one
  std::optional<exec::CheckReport> check;
  // Loss and gradient norm are finite. If not, no parameter was changed, except by updates before the norm was known.
  bool finite = true;
  std::string not_finite;  // with Watch::numbers: the first result that was not finite
};

// What is watched during a step: nothing, the order of accesses (check mode, memo/exec/checked_step.h), or the values
// that calls write.
enum class Watch { nothing, order, numbers };

struct Guards {
  exec::Watchdog* watchdog = nullptr;  // watches copies; it must outlive the session. null: no watchdog
  std::optional<exec::Faults> faults;  // faults of the disk tier, for tests
};

class Session {
 public:
  // Fails when the plan does not validate, then when the arena or a tier cannot be opened. The device must outlive the
  // session.
  static Result<std::unique_ptr<Session>> open(plan::Plan plan, const model::Shape& shape, const job::Job& job,
                                               Device& device, const Guards& guards = {});
  ~Session();

  [[nodiscard]] const plan::Plan& plan() const;
  [[nodiscard]] ModelState& state();  // touch its tensors only in work that the device runs

  // `samples`: as many sequences as the plan has; `update` counts from 1 (AdamW's bias correction).
  Result<StepResult> step(const std::vector<Sample>& samples, std::int64_t update, double lr,
                          Watch watch = Watch::nothing);
  // Whether an operation of a tier failed in the last step. If the state is still `unchanged`, the step can be
  // repeated.
  [[nodiscard]] bool tier_failed() const;
  // Whether the state is still that before the last step.
  [[nodiscard]] bool unchanged() const;

  // Bytes of the arena's pages that steps have touched, plus the most that LibTorch took from the heap during steps.
  [[nodiscard]] Bytes device_peak() const;
  [[nodiscard]] std::int64_t departure_count() const;
  [[nodiscard]] const std::vector<std::string>& departures() const;

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace memo::libtorch
