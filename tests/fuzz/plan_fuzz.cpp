// plan.json: any bytes are a plan or a refusal, and of any plan the validator says whether it holds.
#include "memo/check/validate.h"
#include "memo/plan/plan.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const memo::fuzz::File file(data, size);
  const auto plan = memo::plan::read_plan(file.path());
  if (memo::fuzz::accepted(plan)) (void)memo::check::validate(*plan);
  return 0;
}
