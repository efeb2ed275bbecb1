// memo pack: offsets for the buffers of a CSV file, with a proved lower bound on the peak.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>

#include "memo/base/json.h"
#include "memo/base/text.h"
#include "memo/cli/interrupts.h"
#include "memo/cli/verb.h"
#include "memo/pack/csv.h"

namespace memo::cli {
namespace {

struct Arguments {
  std::string in, out;
  std::optional<std::string> capacity;
  std::string method = "search";
  double time_limit = 10;
  std::int64_t seed = 1;
  int threads = static_cast<int>(std::max(2U, std::thread::hardware_concurrency())) - 1;
  bool json = false;
};

const char* name_of(pack::Outcome outcome) {
  switch (outcome) {
    case pack::Outcome::optimal:
      return "optimal";
    case pack::Outcome::feasible:
      return "feasible";
    case pack::Outcome::infeasible:
      return "infeasible";
    case pack::Outcome::timeout:
      break;
  }
  return "timeout";
}

// Bytes over the bound, as a share of it; 0 without buffers.
double gap_of(const pack::Packing& packing) {
  if (packing.peak == packing.lower_bound) return 0;
  return static_cast<double>(packing.peak - packing.lower_bound) / static_cast<double>(packing.lower_bound);
}

void print(const pack::Packing& packing, std::size_t buffers, bool json) {
  const bool answered = packing.outcome == pack::Outcome::optimal || packing.outcome == pack::Outcome::feasible;
  if (json) {
    nlohmann::ordered_json object{{"status", name_of(packing.outcome)}, {"peak", nullptr}};
    if (answered) object["peak"] = packing.peak;
    object["lower_bound"] = packing.lower_bound;
    object["gap"] = nullptr;
    if (answered) object["gap"] = gap_of(packing);
    object["seconds"] = packing.seconds;
    object["buffers"] = buffers;
    fmt::print("{}\n", json_text(object));
    return;
  }
  const auto bytes = [](std::int64_t n) { return fmt::format("{} ({})", n, format_bytes(Bytes(n))); };
  fmt::print("status       {}\n", name_of(packing.outcome));
  if (answered) fmt::print("peak         {}\n", bytes(packing.peak));
  fmt::print("lower bound  {}\n", bytes(packing.lower_bound));
  if (answered) fmt::print("gap          {:.2f} %\n", 100 * gap_of(packing));
  fmt::print("time         {}\nbuffers      {}\n", format_seconds(Seconds(packing.seconds)), buffers);
}

// Refuses to overwrite a table without offsets: it may be an input.
Status check_output(const Path& out) {
  std::error_code ignored;
  if (!std::filesystem::exists(out, ignored) || std::filesystem::is_empty(out, ignored)) return {};
  const Result<pack::Csv> csv = pack::read_csv(out);
  if (csv && csv->offset) return {};
  return bad_input(fmt::format("{}: is there already and is not a table with offsets; name another file, or remove it",
                               out.string()));
}

// A capacity that can be reached, to name in place of one that cannot: the bound, or the best packing of a short
// search.
Error infeasible(const Arguments& arguments, const pack::Csv& csv, pack::Options options, std::int64_t lower_bound) {
  const std::int64_t capacity = *options.capacity;
  options.capacity.reset();
  options.time_limit = std::min(options.time_limit, 2.);
  const pack::Packing packing = pack::pack(csv.instance, options);
  return {ErrorKind::infeasible,
          fmt::format("{}: needs at least {} bytes and --capacity is {}; --capacity {} is {}enough", arguments.in,
                      lower_bound, capacity, packing.peak, packing.peak == lower_bound ? "" : "known to be ")};
}

Status run_pack(const Arguments& arguments) {
  if (!(arguments.time_limit > 0))
    return bad_input(
        fmt::format("--time-limit: {} is not above 0; give seconds, for example 10", arguments.time_limit));
  if (arguments.threads < 1)
    return bad_input(fmt::format("--threads: {} is less than 1; give the number of threads", arguments.threads));
  if (arguments.seed < 0) return bad_input(fmt::format("--seed: {} is negative; give 0 or more", arguments.seed));
  pack::Options options;
  options.time_limit = arguments.time_limit;
  options.seed = static_cast<std::uint64_t>(arguments.seed);
  options.threads = arguments.threads;
  options.method = arguments.method == "mip" ? pack::Method::mip : pack::Method::search;
  if (arguments.capacity) {
    const Result<Bytes> capacity = parse_bytes(*arguments.capacity);
    if (!capacity) return bad_input("--capacity: " + capacity.error().message);
    options.capacity = capacity->value();
  }
  if (!arguments.out.empty()) MEMO_CHECKED(check_output(arguments.out));
  MEMO_TRY(const pack::Csv csv, pack::read_csv(arguments.in));
  options.stop = &interrupts();
  const pack::Packing packing = pack::pack(csv.instance, options);
  // Writes the file first, so that it exists when the summary is read.
  const bool answered = packing.outcome == pack::Outcome::optimal || packing.outcome == pack::Outcome::feasible;
  if (answered && !arguments.out.empty())
    MEMO_CHECKED(write_atomically(arguments.out, pack::format_csv(csv, packing.offsets)));
  print(packing, csv.instance.size(), arguments.json);
  if (packing.outcome == pack::Outcome::infeasible)
    return tl::unexpected(infeasible(arguments, csv, options, packing.lower_bound));
  if (options.stop->load() != 0 && packing.outcome != pack::Outcome::optimal)
    return fail(ErrorKind::interrupted, arguments.in + ": interrupted; the best packing so far is the answer");
  if (packing.outcome == pack::Outcome::timeout)
    return fail(ErrorKind::time_limit,
                fmt::format("{}: no packing found in {} s (lower bound {} bytes); raise --time-limit or --capacity",
                            arguments.in, arguments.time_limit, packing.lower_bound));
  return {};
}

}  // namespace

void add_pack(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("pack", "Pack buffers of a CSV file (MiniMalloc's format) into the least memory");
  verb->add_option("IN", arguments->in,
                   "columns id, lower, upper, size; optional alignment, offset (fixed), hint, gaps")
      ->required()
      ->type_name("CSV");
  verb->add_option("--capacity", arguments->capacity, "decide whether they fit BYTES, for example 1048576 or 1MiB")
      ->type_name("BYTES");
  verb->add_option("--time-limit", arguments->time_limit, "SECONDS to search at most")
      ->type_name("SECONDS")
      ->capture_default_str();
  verb->add_option("-o,--output", arguments->out, "write the table with an offset column here")->type_name("CSV");
  verb->add_option("--seed", arguments->seed, "of the search")->type_name("N")->capture_default_str();
  verb->add_option("--threads", arguments->threads, "to search with at most")->type_name("N")->capture_default_str();
  verb->add_option("--method", arguments->method, "search, or mip: the paper's mixed-integer program, for comparison")
      ->check(CLI::IsMember({"search", "mip"}))
      ->capture_default_str();
  verb->add_flag("--json", arguments->json, "print one JSON object");
  verb->callback([arguments, &action] { action = [arguments] { return run_pack(*arguments); }; });
}

}  // namespace memo::cli
