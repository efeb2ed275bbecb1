// What a job fixes about its profile and plan before anything is measured: sizes, known without any tensor library.
#pragma once

#include <string>
#include <vector>

#include "memo/job/job.h"
#include "memo/model/parameters.h"
#include "memo/model/shape.h"
#include "memo/plan/profile.h"

namespace memo::plan {

// Tokens per block of "auto": 1024, less for short contexts.
Tokens auto_block(Tokens context);
// As the job says.
Tokens job_block(const job::Job& job);

// The fixed regions' names and sizes, of the parameters that belong to no layer (model::state_bytes): "weights",
// "gradients", "optimizer". Those of a layer are tensors of the dataflow.
std::vector<Fixed> fixed_memory(const model::Shape& shape, job::DType dtype);

// Refuses a profile that was made for another job: other sizes, dtype, context or blocks. `what` names it in the error,
// for example "plan.json: the plan".
Status check_for_job(const Profile& profile, const job::Job& job, const std::string& what);

}  // namespace memo::plan
