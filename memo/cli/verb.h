// One file for each verb: it adds its subcommand to the app, and sets `action` when the verb was chosen. Verbs that
// need LibTorch lie in cli/torch, which the command memo-tensors has; memo has cli/light instead, which hands over to
// memo-tensors.
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

// Adds the verbs that need LibTorch: profile, train, compare and eval.
void add_tensor_verbs(CLI::App& app, Action& action);

}  // namespace memo::cli
