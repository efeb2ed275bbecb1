// One file for each verb: it adds its subcommand to the app, and sets `action` when the verb was chosen. tensor_verbs.h
// has those that need LibTorch.
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
void add_profile(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_compare(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);

}  // namespace memo::cli
