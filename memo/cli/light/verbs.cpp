// What needs LibTorch, in the command that starts without it: hands over to memo-tensors, the command beside it, with
// the same arguments.
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "memo/cli/beside.h"
#include "memo/cli/gpu.h"
#include "memo/cli/here.h"
#include "memo/cli/planning.h"
#include "memo/cli/tensor_verbs.h"

namespace memo::cli {
namespace {

std::vector<std::string> own_arguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string> arguments;
  for (std::size_t at = 0; at < text.size(); at += arguments.back().size() + 1)
    arguments.emplace_back(text.c_str() + at);
  return arguments;
}

// Replaces this process by memo-tensors. Returns only an error.
tl::unexpected<Error> hand_over() {
  const Path command = beside_command("memo-tensors");
  std::error_code error;
  if (!std::filesystem::exists(command, error))
    return bad_input(
        "this build of memo has no LibTorch (there is no memo-tensors beside it): it neither trains nor "
        "measures; name a profile with --profile, and hardware other than 'here'");
  std::vector<std::string> arguments = own_arguments();
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  ::execv(command.c_str(), pointers.data());
  return run_time_error("cannot start " + command.string() + ": " + std::strerror(errno));
}

}  // namespace

Status profile(const ProfileOptions&, const job::Job&) { return hand_over(); }
Status train(const TrainOptions&, job::Job) { return hand_over(); }
Status compare(const CompareOptions&, job::Job) { return hand_over(); }
Status eval(const EvalOptions&) { return hand_over(); }

Result<ForHere> plan_here(job::Job) { return hand_over(); }

Result<estimate::Hardware> measure_here(const Path&, const model::Shape&) { return hand_over(); }

bool trains_on_gpus() { return MEMO_GPU; }

std::optional<Result<Gpu>> look_at_gpu(const Memory&) {
  if (!trains_on_gpus() || !has_nvidia_driver()) return std::nullopt;
  return hand_over();
}

}  // namespace memo::cli
