// The subject of a report: a plan, or a run with its plan, as values read from files (docs/formats.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/plan/plan.h"
#include "memo/sim/simulate.h"

namespace memo::report {

struct LossByPosition {
  std::int64_t context = 0;    // of the evaluation, in tokens; 0: no evaluation
  std::vector<double> losses;  // means over at most 256 equal spans of the context, nats per token
};

struct Step {  // a line of metrics.jsonl
  std::int64_t step = 0;
  double loss = 0;  // nats per token
  double gradient_norm = 0, lr = 0;
  Seconds seconds, stall;
};

struct Measured {  // values from summary.json
  Bytes device_peak;
  Seconds step, stall;  // medians without the first step
  Bytes bytes_out, bytes_in;
  Bytes process_peak_rss;
  double tokens_per_second = 0;
  std::string loss_digest;
  std::int64_t departures = 0;
  std::string first_departure;
};

struct Subject {
  std::string name;  // the path as the user gave it
  plan::Plan plan;
  sim::Timeline predicted;
  std::optional<sim::Timeline> timeline;  // measured, of the last step
  std::optional<Measured> measured;
  std::vector<Step> steps;
  LossByPosition loss_by_position;
  [[nodiscard]] bool is_run() const { return measured || !steps.empty(); }
};

// `path` is a plan file or a run folder. A plan that fails its check is refused by name; so is a file that is
// truncated, of another version, or not Memo's. A run folder needs only plan.json: the run may still be going on.
Result<Subject> read_subject(const Path& path);

}  // namespace memo::report
