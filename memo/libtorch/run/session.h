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
  double loss = 0;           // mean, nats per token
  double gradient_norm = 0;  // global, before clipping
  Seconds seconds;           // the whole step
  exec::StepReport report;   // sums over the sequences; spans of the last one
  std::optional<exec::CheckReport> check;
  bool finite = true;  // loss and gradient norm; else no parameter was changed, but for updates before all gradients
  std::string not_finite;  // what was not, first: of a step with Watch::numbers
};

enum class Watch { nothing, order, numbers };  // of a step: check mode (memo/exec/checked_step.h); what calls write

struct Guards {
  exec::Watchdog* watchdog = nullptr;  // of copies; it must outlive the session. None: nobody watches
  std::optional<exec::Faults> faults;  // of the disk tier, for tests
};

class Session {
 public:
  // Fails when the arena or a tier cannot be had; before that when the plan does not validate. The device must outlive
  // the session.
  static Result<std::unique_ptr<Session>> open(plan::Plan plan, const model::Shape& shape, const job::Job& job,
                                               Device& device, const Guards& guards = {});
  ~Session();

  [[nodiscard]] const plan::Plan& plan() const;
  [[nodiscard]] ModelState& state();  // its tensors are for work that the device runs

  // `samples`: the plan's number of sequences; `update` counts from 1 (AdamW's bias correction).
  Result<StepResult> step(const std::vector<Sample>& samples, std::int64_t update, double lr,
                          Watch watch = Watch::nothing);
  // An operation of a tier failed in the last step. The next one may be the same step: a step that failed has changed
  // nothing but what `unchanged` says.
  [[nodiscard]] bool tier_failed() const;
  // The state is that before the last step, which changed none of it.
  [[nodiscard]] bool unchanged() const;

  // Pages of the arena that steps have touched, and the most that LibTorch took from the heap during steps.
  [[nodiscard]] Bytes device_peak() const;
  [[nodiscard]] std::int64_t departure_count() const;
  [[nodiscard]] const std::vector<std::string>& departures() const;

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace memo::libtorch
