// Reads the files of a run folder, except its plan (docs/formats.md).
#pragma once

#include "memo/report/subject.h"

namespace memo::report {

Result<std::vector<Step>> read_metrics(const Path& path);
Result<Measured> read_summary(const Path& path);
// Checks the timeline against the program: indices in range, no span that ends before it starts.
Result<sim::Timeline> read_timeline(const Path& path, const plan::Program& program);
Result<LossByPosition> read_loss_by_position(const Path& path);  // reads eval.json

}  // namespace memo::report
