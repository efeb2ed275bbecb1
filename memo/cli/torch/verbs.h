// The verbs of memo-tensors, each of which needs LibTorch.
#pragma once

#include "memo/cli/tensor_verbs.h"
#include "memo/cli/verb.h"
#include "memo/job/job.h"
#include "memo/libtorch/memory/device_kind.h"

namespace memo::cli {

void add_profile(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_compare(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);

}  // namespace memo::cli
