// memo eval: the loss of a model over a text, and at each position of its context.
// For a run, the result is also kept in its folder, for its report.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "memo/base/json.h"
#include "memo/cli/interrupts.h"
#include "memo/cli/planning.h"
#include "memo/cli/python.h"
#include "memo/cli/tensor_verbs.h"
#include "memo/libtorch/memory/arena.h"
#include "memo/libtorch/train/evaluation.h"
#include "memo/libtorch/train/run_files.h"
#include "memo/libtorch/train/weights_io.h"
#include "memo/store/checkpoint_files.h"

namespace memo::cli {
namespace {

// The model's folder: for a run, its newest checkpoint.
Result<Path> model_folder(const Path& given) {
  if (is_model_folder(given)) return given;
  MEMO_TRY(const std::optional<store::LatestCheckpoint> latest, store::latest_checkpoint(given));
  if (latest) {
    for (const std::string& damage : latest->damaged) say("passed over: " + damage);
    return latest->path;
  }
  return bad_input(given.string() + ": neither a model folder (no config.json) nor a run (no checkpoint)");
}

Result<corpus::Dataset> open_text(const EvalOptions& options, const Path& folder, const model::Shape& shape) {
  job::DataSource source;
  for (const std::string& file : options.data) source.files.emplace_back(file);
  source.bin_dtype = options.bin_dtype;
  if (options.tokenizer) source.tokenizer = *options.tokenizer;
  if (!options.tokenizer && std::filesystem::exists(folder / "tokenizer.json"))
    source.tokenizer = folder / "tokenizer.json";
  MEMO_TRY(corpus::Dataset data, corpus::Dataset::open(source, shape.vocab, {.python = find_python(), .note = say}));
  MEMO_CHECKED(data.check_context(Tokens(options.context)));
  return data;
}

std::string text_of(const EvalOptions& options, const libtorch::Evaluation& found) {
  const nlohmann::ordered_json object{{"loss", found.loss},
                                      {"context", options.context},
                                      {"windows", found.windows},
                                      {"tokens", found.windows * options.context},
                                      {"by_position", found.by_position}};
  return json_text(object) + "\n";
}

// Ranges of positions by powers of two: the first 256, then each as long as all before it.
void print_table(const EvalOptions& options, const libtorch::Evaluation& found) {
  fmt::print("loss {:.4f} nats a token (perplexity {:.3f}) over {} tokens: {} windows of {}\n", found.loss,
             std::exp(found.loss), found.windows * options.context, found.windows, options.context);
  fmt::print("{:>20}  {:>8}\n", "position", "loss");
  for (std::int64_t begin = 0, end = 256; begin < options.context; begin = end, end *= 2) {
    end = std::min(end, options.context);
    double sum = 0;
    for (std::int64_t i = begin; i < end; ++i) sum += found.by_position[static_cast<std::size_t>(i)];
    fmt::print("{:>20}  {:>8.4f}\n", fmt::format("{} to {}", begin, end - 1), sum / static_cast<double>(end - begin));
  }
}

}  // namespace

Status eval(const EvalOptions& options) {
  MEMO_TRY(const Path folder, model_folder(options.model));
  const Path run = options.model;
  const bool is_run = folder != run;
  if (is_run) MEMO_CHECKED(check_replaceable(run / libtorch::evaluation_file.name, libtorch::evaluation_file.kind));
  MEMO_TRY(const model::Shape shape, shape_for(options, folder));
  MEMO_TRY(const corpus::Dataset data, open_text(options, folder, shape));

  const job::DType dtype = options.dtype == "bfloat16" ? job::DType::bfloat16 : job::DType::float32;
  const libtorch::WholeState whole(shape, dtype);
  // Gradients are never touched, so their pages never exist.
  MEMO_TRY(const libtorch::Arena memory, libtorch::Arena::map(whole.bytes()));
  libtorch::ModelState state(shape, dtype,
                             [&](const libtorch::StateGroup& group) { return whole.regions(memory.data(), group); });
  MEMO_CHECKED(libtorch::load_weights(state, folder, say));
  const libtorch::Decoder decoder(shape, 1, state.parameters());

  const std::atomic<int>& interrupted = interrupts();
  const libtorch::Evaluation found =
      libtorch::evaluate(decoder, data, {Tokens(options.context), Tokens(options.block), options.windows},
                         [&](std::int64_t done, std::int64_t of) {
                           if (!options.json) say(fmt::format("window {} of {}", done, of));
                           return interrupted.load() == 0;
                         });
  const std::string json = text_of(options, found);
  if (options.json)
    fmt::print("{}", json);
  else
    print_table(options, found);
  if (is_run) MEMO_CHECKED(libtorch::write_run_file(libtorch::evaluation_file, run, json));
  if (interrupted.load() > 0)
    return fail(ErrorKind::interrupted, fmt::format("stopped after {} windows", found.windows));
  return {};
}

}  // namespace memo::cli
