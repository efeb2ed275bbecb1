// profile.json: any bytes are a profile or a refusal.
#include "memo/plan/profile.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const memo::fuzz::File file(data, size);
  memo::fuzz::accepted(memo::plan::read_profile(file.path()));
  return 0;
}
