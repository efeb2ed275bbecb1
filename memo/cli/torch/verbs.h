// The verbs that need LibTorch.
#pragma once

#include <memory>

#include "memo/cli/verb.h"
#include "memo/job/job.h"
#include "memo/torch/device.h"

namespace memo::cli {

void add_profile(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_compare(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);

// As memory.device says. What the command is linked with decides which devices there are: cpu_only, or cuda.
Result<std::unique_ptr<edge::Device>> open_device(const job::Job& job);

}  // namespace memo::cli
