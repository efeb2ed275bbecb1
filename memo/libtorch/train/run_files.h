// The files of a run folder other than checkpoints, and the process's peak memory.
#pragma once

#include <string_view>

#include "memo/exec/executor.h"
#include "memo/libtorch/train/trainer.h"

namespace memo::libtorch {

struct RunFile {
  const char* name;
  FileKind kind;
};
inline constexpr RunFile metrics_file{"metrics.jsonl", {"the metrics of a run", "{\"step\":"}};
inline constexpr RunFile timeline_file{"timeline.json",
                                       {"the timeline of a run", "{\"columns\":[\"index\",\"start\",\"end\"],"}};
inline constexpr RunFile summary_file{"summary.json", {"the summary of a run", "{\"strategy\":", "\"loss_digest\":"}};
inline constexpr RunFile evaluation_file{"eval.json", {"an evaluation", "{\"loss\":", "\"by_position\":"}};
inline constexpr RunFile comparison_file{"compare.json", {"a comparison", "{\"version\":1,\"rows\":["}};

Status write_run_file(const RunFile& file, const Path& run, std::string_view text);

// metrics.jsonl: one line for each step.
class MetricsFile {
 public:
  // Keeps the first `steps` lines that an earlier run left in the folder.
  static Result<MetricsFile> open(const Path& run, std::int64_t steps);
  Status add(const StepLine& line);

 private:
  explicit MetricsFile(Path path) : path_(std::move(path)) {}
  Path path_;
};

// timeline.json: the measured spans of the last step and the predicted ones.
Status write_timeline(const plan::Plan& plan, const exec::StepReport& measured, const Path& run);

// Peak resident memory of this process since the last reset (VmHWM).
void reset_peak_rss();
Bytes peak_rss();

}  // namespace memo::libtorch
