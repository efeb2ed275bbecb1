// Profiles a job: one layer of each kind on a few blocks, attention at a few lengths, the tiers.
#pragma once

#include <functional>
#include <string>

#include "memo/job/job.h"
#include "memo/model/shape.h"
#include "memo/plan/profile.h"

namespace memo::edge {

// Block and head groups as the job says; "auto" picks blocks of 1024 tokens (less for short contexts), and as many head
// groups as leave every thread a query head.
Tokens job_block(const job::Job& job);
int job_groups(const job::Job& job, const model::Shape& shape);

// Refuses a profile that was made for another job: other sizes, dtype, context or blocks. `what` names it in the error,
// for example "plan.json: the plan".
Status check_profile(const plan::Profile& profile, const job::Job& job, const std::string& what);

// `say` gets lines of progress.
Result<plan::Profile> profile_job(const job::Job& job, const std::function<void(const std::string&)>& say = {});

}  // namespace memo::edge
