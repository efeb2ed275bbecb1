// What profile, plan, train and compare share: from a job to a profile and a plan, and how they are shown.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memo/job/job.h"
#include "memo/plan/plan.h"

namespace memo::cli {

// A line on stderr; over the progress line when stderr is a terminal.
void say(const std::string& line);

// Measures a profile; an error in a build without LibTorch.
Result<plan::Profile> measure_profile(const job::Job& job);
// Reads the profile, or measures one.
Result<plan::Profile> profile_for(const job::Job& job, const std::optional<std::string>& file);
Result<plan::Plan> plan_for(const job::Job& job, const plan::Profile& profile, const std::string& strategy);
// The plan by the given profile, or by one that is measured. Where nothing fits and the job leaves head groups or
// blocks to Memo, more groups and then smaller blocks are measured, until a plan fits.
Result<plan::Plan> plan_job(const job::Job& job, const std::optional<std::string>& profile,
                            const std::string& strategy);
// An error when `strategy` is unknown, with the nearest known one.
Status check_strategy(const std::string& strategy);

// The plan in words: peak, time, what goes where.
std::string describe(const plan::Plan& plan);
std::string plan_json_line(const plan::Plan& plan);

}  // namespace memo::cli
