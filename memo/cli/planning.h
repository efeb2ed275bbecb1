// Leads from a job to a profile and a plan, and shows plans; profile, plan, train and compare share it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "memo/job/job.h"
#include "memo/plan/plan.h"

namespace memo::cli {

// Prints a line on stderr; if stderr is a terminal, over the progress line.
void say(const std::string& line);

// Measures a profile of a job.
using Measure = std::function<Result<plan::Profile>(const job::Job&)>;
// A job that is to be planned for the device here, and what measures profiles on this device, which is opened once.
struct ForHere {
  job::Job job;
  Measure measure;
};
// With a limit of the device's memory: where the job has none, what the device has free, less a reserve, which is said.
// An error in a build without LibTorch.
Result<ForHere> plan_here(job::Job job);
// The same for a GPU of the estimator's table of hardware, or of a user's file; its profiles are on paper.
Result<ForHere> plan_on_paper(job::Job job, const std::string& hardware, const std::optional<std::string>& file);
Result<plan::Plan> plan_for(const job::Job& job, const plan::Profile& profile, const std::string& strategy);
// Reads the profile, or measures one.
Result<plan::Profile> profile_for(const job::Job& job, const std::optional<std::string>& file, const Measure& measure);
// The plan by the given profile, or by a measured one. If nothing fits, and the job leaves head groups or blocks to
// Memo, measures more groups and then smaller blocks until a plan fits. `first`: the job with what Memo is to try first
// of that.
Result<plan::Plan> plan_job(const job::Job& job, const job::Job& first, const std::optional<std::string>& profile,
                            const std::string& strategy, const Measure& measure);
// An error when `strategy` is unknown, with the nearest known one.
Status check_strategy(const std::string& strategy);

// Describes the plan in words: peak, time, and where each class goes.
std::string describe(const plan::Plan& plan);
std::string plan_json_line(const plan::Plan& plan);

}  // namespace memo::cli
