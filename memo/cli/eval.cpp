// memo eval RUN|MODEL --data FILE --context S: the loss of a model over a text, and at each position of its context.
#include <memory>

#include "memo/cli/tensor_verbs.h"
#include "memo/cli/verb.h"

namespace memo::cli {
namespace {

Status read_and_eval(const EvalOptions& options) {
  // A run's newest checkpoint is looked for once, since that reads all of its bytes.
  if (is_model_folder(options.model)) MEMO_CHECKED(shape_for(options, options.model));
  return eval(options);
}

}  // namespace

bool is_model_folder(const Path& folder) {
  std::error_code error;  // reading a dangling link gives the error
  return std::filesystem::exists(std::filesystem::symlink_status(folder / "config.json", error));
}

Result<model::Shape> shape_for(const EvalOptions& options, const Path& folder) {
  MEMO_TRY(model::Shape described, model::read_config(folder));
  return model::for_context(std::move(described), Tokens(options.context), "--context");
}

void add_eval(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("eval", "The loss of a model over a text, and at each position of its context");
  const auto options = std::make_shared<EvalOptions>();
  verb->add_option("model", options->model, "A run folder (its newest checkpoint) or a model folder")->required();
  verb->add_option("--data", options->data, "Text, or token ids in *.bin; several are taken as one")
      ->required()
      ->allow_extra_args(false);
  verb->add_option("--context", options->context, "Tokens that each window predicts")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  verb->add_option("--tokenizer", options->tokenizer,
                   "tokenizer.json; else the model folder's, else bytes are the tokens");
  verb->add_option("--bin-dtype", options->bin_dtype, "Of *.bin: uint16 or uint32")
      ->check(CLI::IsMember({"uint16", "uint32"}))
      ->capture_default_str();
  verb->add_option("--dtype", options->dtype, "Of compute: float32 or bfloat16")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  verb->add_option("--block", options->block, "Tokens per block")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30))
      ->capture_default_str();
  verb->add_option("--windows", options->windows, "At most so many windows (default: all)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  verb->add_flag("--json", options->json, "One JSON object on stdout");
  verb->callback([&action, options] { action = [options] { return read_and_eval(*options); }; });
}

}  // namespace memo::cli
