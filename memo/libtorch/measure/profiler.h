// Profiles a job: one layer of each kind on a few blocks, attention at a few lengths, the tiers.
#pragma once

#include <functional>
#include <string>

#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"
#include "memo/model/shape.h"
#include "memo/plan/profile.h"

namespace memo::libtorch {

// Head groups as the job says; "auto" takes as many as leave every thread a query head.
int job_groups(const job::Job& job, const model::Shape& shape);

// On `device`; `say` gets lines of progress. `python` has the tokenizers library, for documents apart.
Result<plan::Profile> profile_job(const job::Job& job, Device& device,
                                  const std::function<void(const std::string&)>& say = {},
                                  const Path& python = "python3");

}  // namespace memo::libtorch
