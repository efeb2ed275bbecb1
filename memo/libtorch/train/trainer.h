// Trains a job by a plan: data, steps, metrics, checkpoints, summary. A run folder holds plan.json, metrics.jsonl,
// timeline.json, summary.json and checkpoint-<step>/ (docs/formats.md).
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>

#include "memo/corpus/dataset.h"
#include "memo/job/job.h"
#include "memo/libtorch/run/session.h"
#include "memo/libtorch/train/run_start.h"
#include "memo/plan/plan.h"

namespace memo::libtorch {

struct StepLine {
  std::int64_t step = 0, steps = 0;
  double loss = 0, lr = 0, gradient_norm = 0;
  Seconds seconds, stall;
  double tokens_per_second = 0;
  bool skipped = false;  // the step was not finite and changed nothing
  bool spike = false;    // of the loss (memo/libtorch/train/loss_spike.h)
};

struct Summary {
  std::string strategy;
  std::int64_t context = 0, steps = 0;
  double loss_first = 0, loss_last = 0;
  std::string loss_digest, grad_digest;
  Bytes device_peak, device_peak_predicted;
  Seconds step, step_predicted, stall, stall_predicted;  // per step; measured ones are medians without the first step
  double tokens_per_second = 0;
  Bytes bytes_out, bytes_in;  // per step
  Seconds copy_cpu;           // of cores, by the copies of a step
  Bytes process_peak_rss;
  std::int64_t departures = 0;
  std::string first_departure;
};

enum class CheckSteps { none, first, every };  // first: of this process

struct TrainRequest {
  Path out;
  bool resume = false;
  CheckSteps check = CheckSteps::first;
  // Called on another thread when nothing that waits for a disk has moved for the job's memory.watchdog; it is to end
  // the process (memo/exec/watchdog.h). None: nobody watches.
  std::function<void(const std::string&)> on_stall;
  std::optional<exec::Faults> faults;  // of the disk tier, for tests
  std::function<void(const StepLine&)> on_step;
  std::function<void(std::int64_t step, const exec::CheckReport&)> on_check;  // of a step that ran clean in check mode
  Note on_note = [](const std::string&) {};
  Replan replan;  // of the same job, asked when the slow tier fails; none: the run ends then
  const std::atomic<int>* interrupted = nullptr;  // > 0: finish the step, save, return ErrorKind::interrupted
};

// The job's data, fit for its model and context: opened first, so that what is wrong with it is said before anything is
// measured. `python` has the tokenizers library.
Result<corpus::Dataset> open_data(const job::Job& job, const Path& python, const Note& note);

Result<Summary> train(const job::Job& job, const plan::Plan& plan, const corpus::Dataset& data, Device& device,
                      const TrainRequest& request);

// The contract's summary.json.
std::string summary_json(const Summary& summary);

}  // namespace memo::libtorch
