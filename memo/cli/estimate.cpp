// memo estimate: what fits on GPUs that are not here, and how fast it would be, planned and simulated like a run.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "memo/base/json.h"
#include "memo/base/text.h"
#include "memo/cli/estimate_show.h"
#include "memo/cli/here.h"
#include "memo/cli/verb.h"
#include "memo/estimate/models.h"
#include "memo/estimate/rows.h"

namespace memo::cli {
namespace {

namespace on_paper = memo::estimate;

constexpr FileKind rows_kind{"a table of estimates", "", "pred_step_time_s"};

struct EstimateOptions {
  std::string model, hardware = "H100x8", strategy = "memo", attention, rows, out, plot, device_limit,
                     disk = "/var/tmp";
  std::int64_t context = 0, batch = 0, block = 0;
  std::optional<std::string> recompute, hardware_file;
  std::optional<int> zero;
  std::vector<int> gpus{8, 16, 32, 64};  // numbers of GPUs in a sweep
  int tensor = 0, ring = 0, ulysses = 0, pipeline = 0, data = 0;
  double price = 0;
  bool fp8 = false, float32 = false, offload_inputs = false, search = false, sweep = false, json = false;
};

// Reads "A800x8": the GPU and how many.
std::pair<std::string, int> split_hardware(const std::string& text) {
  const std::size_t x = text.rfind('x');
  int count = 0;
  if (x != std::string::npos && x > 0) {
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + x + 1, end, count);
    if (error == std::errc() && stop == end && count > 0) return {text.substr(0, x), count};
  }
  return {text, 1};
}

Result<on_paper::Task> task_of(const EstimateOptions& options) {
  on_paper::Task task;
  if (options.model.empty() || (options.context == 0 && !options.sweep))
    return bad_input("estimate: give --model and --context, or --rows; see 'memo estimate --help'");
  MEMO_TRY(task.shape, on_paper::find_model(options.model));
  task.model_name = options.model;
  const auto [name, count] = split_hardware(options.hardware);
  if (name == "here") {
    MEMO_TRY(task.hardware, measure_here(options.disk, task.shape));
  } else {
    MEMO_TRY(const auto table, on_paper::known_hardware(options.hardware_file));
    MEMO_TRY(task.hardware, on_paper::find_hardware(name, table));
  }
  if (!options.attention.empty()) {
    std::vector<std::string> known;
    for (const on_paper::AttentionRate& rate : task.hardware.attention) known.push_back(rate.kernel);
    if (std::ranges::find(known, options.attention) == known.end())
      return bad_input(fmt::format("estimate: --attention {}: of {} the rates of {} are known", options.attention,
                                   task.hardware.name, fmt::join(known, ", ")));
  }
  if (!options.device_limit.empty()) {
    MEMO_TRY(task.hardware.memory, parse_bytes(options.device_limit));
  }
  task.block = Tokens(options.block);
  if (options.recompute)
    task.recompute = *options.recompute == "none"        ? on_paper::Recompute::none
                     : *options.recompute == "selective" ? on_paper::Recompute::selective
                                                         : on_paper::Recompute::full;
  if (options.zero) task.shard = static_cast<on_paper::Shard>(*options.zero);
  task.offload_inputs = options.offload_inputs;
  task.float32 = options.float32 || name == "here";
  task.gpus = count;
  task.context = Tokens(options.context);
  task.batch = options.batch, task.fp8 = options.fp8, task.attention = options.attention;
  if (options.tensor + options.ring + options.ulysses + options.pipeline + options.data > 0) {
    on_paper::Degrees degrees;
    const auto given = [](int value) { return value > 0 ? value : 1; };
    degrees.tensor = given(options.tensor), degrees.ring = given(options.ring);
    degrees.ulysses = given(options.ulysses), degrees.pipeline = given(options.pipeline);
    const int others = degrees.gpus();
    degrees.data = options.data > 0 ? options.data : std::max(1, count / others);
    task.degrees = degrees;
  }
  return task;
}

std::vector<on_paper::Strategy> searched() {
  std::vector<on_paper::Strategy> strategies = on_paper::strategies();
  std::erase_if(strategies, [](const on_paper::Strategy& strategy) { return strategy.in_memo; });
  return strategies;
}

Status estimate_one(const EstimateOptions& options) {
  MEMO_TRY(on_paper::Task task, task_of(options));
  std::vector<on_paper::Strategy> strategies = searched();
  if (!options.search) {
    MEMO_TRY(const on_paper::Strategy strategy, on_paper::find_strategy(options.strategy));
    strategies = {strategy};
  }
  constexpr std::size_t most = 5;
  MEMO_TRY(const on_paper::Outcome outcome, on_paper::search(task, strategies, options.search ? most : 1));
  if (options.json) {
    nlohmann::json found = nlohmann::json::array();
    for (const on_paper::Found& entry : outcome.best) found.push_back(estimate_json(entry, options.price));
    if (outcome.best.empty() && outcome.near) found.push_back(estimate_json(*outcome.near, options.price));
    nlohmann::json others = nlohmann::json::array();
    for (const on_paper::Found& entry : outcome.others) others.push_back(estimate_json(entry, options.price));
    const nlohmann::json all = {{"version", 1},
                                {"found", found},
                                {"others", others},
                                {"planned", outcome.tried},
                                {"ruled_out", outcome.ruled_out}};
    fmt::print("{}\n", json_text(all));
  } else {
    for (const on_paper::Found& entry : outcome.best) fmt::print("{}", estimate_text(entry, options.price));
    if (outcome.best.empty() && outcome.near) fmt::print("{}", estimate_text(*outcome.near, options.price));
    for (const on_paper::Found& entry : outcome.others) fmt::print("{}", why_not(entry, outcome));
    if (options.search)
      fmt::print("planned {} ways, ruled out {} by their state or their least time\n", outcome.tried,
                 outcome.ruled_out);
  }
  if (outcome.best.empty())
    return fail(ErrorKind::infeasible, fmt::format("{} tokens do not fit {}", task.context.value(), options.hardware));
  return {};
}

Status predict(const EstimateOptions& options) {
  if (options.out.empty()) return bad_input("estimate: --rows needs -o OUT.csv");
  MEMO_CHECKED(check_replaceable(options.out, rows_kind));
  MEMO_TRY(const on_paper::Table table, on_paper::read_table(options.rows));
  MEMO_TRY(const auto hardware, on_paper::known_hardware(options.hardware_file));
  const on_paper::Table predicted = on_paper::predict_rows(table, hardware);
  MEMO_CHECKED(replace_file(options.out, on_paper::format_table(predicted), rows_kind));
  fmt::print("{}: {} rows\n", options.out, predicted.rows.size());
  return {};
}

Status sweep(const EstimateOptions& options) {
  MEMO_TRY(const on_paper::Task task, task_of(options));
  constexpr std::int64_t grain = 65536;  // multiples of the longest context, in tokens
  if (!options.out.empty()) MEMO_CHECKED(check_replaceable(options.out, sweep_csv_kind));
  if (!options.plot.empty()) MEMO_CHECKED(check_replaceable(options.plot, sweep_page_kind));
  MEMO_TRY(const auto cells, on_paper::sweep(task, searched(), options.gpus, Tokens(grain)));
  if (!options.out.empty()) MEMO_CHECKED(replace_file(options.out, sweep_csv(cells), sweep_csv_kind));
  const std::string title = fmt::format("{} on {}", options.model, task.hardware.name);
  if (!options.plot.empty())
    MEMO_CHECKED(replace_file(options.plot, sweep_page(title, cells, options.gpus), sweep_page_kind));
  fmt::print("{}", sweep_text(cells, options.gpus));
  return {};
}

Status run_estimate(const EstimateOptions& options) {
  if (!options.rows.empty()) return predict(options);
  if (options.sweep) return sweep(options);
  return estimate_one(options);
}

}  // namespace

void add_estimate(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("estimate", "Say what fits and how fast it would be, on GPUs that are not here");
  const auto options = std::make_shared<EstimateOptions>();
  verb->add_option("--model", options->model, "A name (gpt-7b, llama-3-8b, ...), or a folder with a config.json");
  verb->add_option("--hardware", options->hardware, "GPU and how many: A800x8; 'here' measures this machine")
      ->capture_default_str();
  verb->add_option("--disk", options->disk, "Of 'here': folder of the disk tier")->capture_default_str();
  verb->add_option("--device-limit", options->device_limit,
                   "What a process may hold on the device, when less than all");
  verb->add_option("--block", options->block, "Tokens of Memo's blocks; chosen when absent")
      ->check(CLI::PositiveNumber);
  verb->add_flag("--float32", options->float32, "Compute and save in float32, as on 'here'");
  verb->add_option("--hardware-file", options->hardware_file, "More GPUs, in the form of hardware.toml");
  verb->add_option("--context", options->context, "Tokens of a sequence")->check(CLI::PositiveNumber);
  verb->add_option("--batch", options->batch,
                   "Sequences a step of all GPUs; one for each data parallel rank when absent")
      ->check(CLI::PositiveNumber);
  verb->add_option("--strategy", options->strategy,
                   fmt::format("One of {}", fmt::join(on_paper::strategy_names(), ", ")))
      ->capture_default_str();
  verb->add_option("--tensor", options->tensor, "Tensor parallel degree; without degrees the fastest are taken")
      ->check(CLI::PositiveNumber);
  verb->add_option("--ring", options->ring, "Context parallel degree")->check(CLI::PositiveNumber);
  verb->add_option("--ulysses", options->ulysses, "Degree of Ulysses' all-to-all")->check(CLI::PositiveNumber);
  verb->add_option("--pipeline", options->pipeline, "Pipeline stages")->check(CLI::PositiveNumber);
  verb->add_option("--data", options->data, "Data parallel degree")->check(CLI::PositiveNumber);
  verb->add_option("--recompute", options->recompute, "In place of the strategy's: none, selective or full")
      ->check(CLI::IsMember({"none", "selective", "full"}));
  verb->add_option("--zero", options->zero, "In place of the strategy's: what ranks share out, ZeRO's stage 0 to 3")
      ->check(CLI::Range(0, 3));
  verb->add_flag("--offload-inputs", options->offload_inputs, "Layer inputs to the host");
  verb->add_option("--attention", options->attention,
                   "Kernel: flash2, flash3 or cudnn; default: the one that the strategy takes on this GPU");
  verb->add_flag("--fp8", options->fp8, "Matrix products in 8 bits");
  verb->add_option("--price", options->price, "Of a GPU hour")->check(CLI::NonNegativeNumber);
  verb->add_flag("--search", options->search, "The five best ways of all strategies and degrees");
  verb->add_flag("--sweep", options->sweep, "The longest context of each strategy over numbers of GPUs");
  verb->add_option("--gpus", options->gpus, "Those of a sweep")->delimiter(',')->check(CLI::PositiveNumber);
  verb->add_option("--plot", options->plot, "Where to write a page with the sweep's chart");
  verb->add_option("--rows", options->rows, "Predict every row of a table of setups");
  verb->add_option("-o,--output", options->out, "Where to write the table, of rows or of a sweep (CSV)");
  verb->add_flag("--json", options->json, "Print one JSON object");
  verb->callback([&action, options] { action = [options] { return run_estimate(*options); }; });
}

}  // namespace memo::cli
