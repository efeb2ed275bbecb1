// Stands for cli/torch in a build without LibTorch.
#include "memo/cli/here.h"
#include "memo/cli/planning.h"
#include "memo/cli/verb.h"

namespace memo::cli {

void add_tensor_verbs(CLI::App&, Action&) {}

Result<plan::Profile> measure_profile(const job::Job&) {
  return bad_input("this build of memo has no LibTorch and measures nothing: name a profile with --profile");
}

Result<estimate::Hardware> measure_here(const Path&, const model::Shape&) {
  return bad_input("this build of memo has no LibTorch and measures nothing: name hardware other than 'here'");
}

}  // namespace memo::cli
