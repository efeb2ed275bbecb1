// One file a verb: each adds its subcommand to the app and sets `action` when it was chosen. Verbs that need LibTorch
// lie in cli/torch, of the command memo-tensors; memo itself has cli/light in their place, which hands over to it.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "memo/base/result.h"

namespace memo::cli {

using Action = std::function<Status()>;

void add_doctor(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_check(CLI::App& app, Action& action);
void add_report(CLI::App& app, Action& action);
void add_estimate(CLI::App& app, Action& action);
void add_pack(CLI::App& app, Action& action);

// Those that need LibTorch: profile, train, compare and eval.
void add_tensor_verbs(CLI::App& app, Action& action);

}  // namespace memo::cli
