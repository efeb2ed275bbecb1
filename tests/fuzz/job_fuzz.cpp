// job.toml: any bytes are a job or a refusal; of a job the shape can be asked.
#include "memo/job/job.h"
#include "memo/model/shape.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const memo::fuzz::File file(data, size);
  const auto job = memo::job::read_job(file.path());
  if (memo::fuzz::accepted(job) && !job->model.path) memo::fuzz::accepted(memo::model::job_shape(*job));
  return 0;
}
