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
  bool spike = false;    // of the loss: memo/libtorch/train/loss_spike.h
};

struct Summary {
  std::string strategy;
  std::int64_t context = 0, steps = 0;
  double loss_first = 0, loss_last = 0;
  std::string loss_digest, grad_digest;  // grad_digest is empty where none was asked for
  Bytes device_peak, device_peak_predicted;
  Seconds step, step_predicted, stall, stall_predicted;  // per step; measured ones are medians without the first step
  double tokens_per_second = 0;
  Bytes bytes_out, bytes_in;  // per step
  Seconds copy_cpu;           // seconds of cores that the copies of a step take
  Bytes process_peak_rss;
  std::int64_t departures = 0;
  std::string first_departure;
};

enum class CheckSteps { none, first, every };  // `first`: the first step of this process

struct TrainRequest {
  Path out;
  bool resume = false;
  CheckSteps check = CheckSteps::first;
  bool gradient_digest = true;  // about a second a GB of gradients, at the end
  // Called on another thread when nothing that waits for a disk has moved for the job's memory.watchdog. It must end
  // the process (memo/exec/watchdog.h). Null: no watchdog.
  std::function<void(const std::string&)> on_stall;
  std::optional<exec::Faults> faults;  // faults of the disk tier, for tests
  std::function<void(const StepLine&)> on_step;
  // After a step without violations in check mode.
  std::function<void(std::int64_t step, const exec::CheckReport&)> on_check;
  Note on_note = [](const std::string&) {};
  Replan replan;  // makes a plan of the same job when the slow tier fails; null: the run ends then
  const std::atomic<int>* interrupted = nullptr;  // > 0: finish the step, save, return ErrorKind::interrupted
};

// Opens the job's data and checks that they fit its model and context. Call it first, so that errors in the data show
// before anything is measured. `python` is an interpreter with the tokenizers library.
Result<corpus::Dataset> open_data(const job::Job& job, const Path& python, const Note& note);

Result<Summary> train(const job::Job& job, const plan::Plan& plan, const corpus::Dataset& data, Device& device,
                      const TrainRequest& request);

// The text of summary.json (docs/formats.md).
std::string summary_json(const Summary& summary);

}  // namespace memo::libtorch
