// A job's profile for hardware that is not here: what `memo profile` would measure there, by the estimator's rates.
#pragma once

#include "memo/estimate/hardware.h"
#include "memo/job/job.h"
#include "memo/plan/profile.h"

namespace memo::estimate {

// The profile of a step on one GPU. What the job leaves to Memo (block, head groups, kernel of attention, tile of the
// loss) is chosen as a run on that GPU would choose it. Its tiers are those of the job: memory.host_limit, and
// memory.disk with memory.disk_limit, at the hardware's rates. Bad input: a kernel of attention for which the
// hardware's table has no rates, a disk without a limit.
Result<plan::Profile> paper_profile(const job::Job& job, const Hardware& hardware);
// The job with a limit: where it has none, the GPU's memory less what a process holds beside tensors.
job::Job with_limit_of(job::Job job, const Hardware& hardware);

}  // namespace memo::estimate
