// The verbs that need LibTorch. Each is read and refused here, in both commands; what it does lies in cli/torch, which
// the command memo-tensors has. The command memo has cli/light instead, which hands over to memo-tensors: it starts
// without LibTorch, since loading that takes longer than most refusals.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "memo/job/job.h"
#include "memo/model/shape.h"

namespace memo::cli {

struct ProfileOptions {
  std::string job, out = "profile.json";
  std::vector<std::string> set;
};
Status profile(const ProfileOptions& options, const job::Job& job);

struct TrainOptions {
  std::string job, out, strategy = "memo", check = "first";
  std::optional<std::string> profile, plan, tensorboard, faults;
  std::vector<std::string> set;
  bool resume = false, json = false, no_gradient_digest = false;
};
Status train(const TrainOptions& options, job::Job job);

struct CompareOptions {
  std::string job, out;
  std::vector<std::string> strategies{"resident", "recompute", "offload", "memo"};
  std::vector<std::string> set;
  std::optional<std::string> profile;
  bool json = false;
};
Status compare(const CompareOptions& options, job::Job job);

struct EvalOptions {
  std::string model, dtype = "float32";
  std::vector<std::string> data;
  std::optional<std::string> tokenizer;
  std::string bin_dtype = "uint16";
  std::int64_t context = 0, block = 1024, windows = 0;
  bool json = false;
};
bool is_model_folder(const Path& folder);  // else the folder of a run
// The model's shape, for as long a context.
Result<model::Shape> shape_for(const EvalOptions& options, const Path& folder);
Status eval(const EvalOptions& options);

}  // namespace memo::cli
