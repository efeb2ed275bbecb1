// Sizes of a profile and plan that the job determines before anything is measured.
#pragma once

#include <string>
#include <vector>

#include "memo/job/job.h"
#include "memo/model/parameters.h"
#include "memo/model/shape.h"
#include "memo/plan/profile.h"

namespace memo::plan {

// Names and sizes of the fixed regions, for the parameters that belong to no layer (model::state_bytes): "weights",
// "gradients", "optimizer". Parameters of layers are tensors of the dataflow.
std::vector<Fixed> fixed_memory(const model::Shape& shape, job::DType dtype);

// Refuses a profile of another job: other sizes, dtype, context or blocks. `what` names it in the error, for example
// "plan.json: the plan".
Status check_for_job(const Profile& profile, const job::Job& job, const std::string& what);

}  // namespace memo::plan
