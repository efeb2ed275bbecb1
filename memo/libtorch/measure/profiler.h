// Profiles a job: chooses the sizes that it leaves to Memo, measures one layer of each kind on a few blocks, attention
// at a few lengths, and the tiers.
#pragma once

#include <functional>
#include <string>

#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"
#include "memo/model/shape.h"
#include "memo/plan/profile.h"

namespace memo::libtorch {

// Profiles on `device`; `say` gets lines of progress. `python` is an interpreter with the tokenizers library, needed
// where documents are apart.
Result<plan::Profile> profile_job(const job::Job& job, Device& device,
                                  const std::function<void(const std::string&)>& say = {},
                                  const Path& python = "python3");

}  // namespace memo::libtorch
