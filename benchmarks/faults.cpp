// Faults of a tier against outcomes: small plans run on a tier that fails by a seed, until each kind of fault has been
// met so many times. A Markdown table; exits with 1 when a run that met a fault ends with other bits and no error.
//
//   build/benchmarks/bench_faults [faults of each kind, and of all kinds mixed]
#include <fmt/format.h>

#include <cstdlib>

#include "tests/exec/fault_trial.h"

namespace memo::exec {
namespace {

struct Row {
  int faults = 0, runs = 0, same = 0, errors = 0, stalls = 0, silent = 0;
};

Row meet(const std::vector<NamedPlan>& plans, const std::vector<Fault>& kinds, int faults, std::uint64_t bits,
         bool checksums) {
  Row row;
  for (std::uint64_t seed = 1; row.faults < faults; ++seed) {
    const plan::Plan& plan = plans[seed % plans.size()].plan;
    const Trial trial = run_with_faults(plan, {.seed = seed, .rate = 0.01, .kinds = kinds}, Seconds(0.02), checksums);
    if (trial.injected.empty()) continue;
    const bool stalled = std::ranges::find(trial.injected, Fault::stall) != trial.injected.end();
    row.faults += static_cast<int>(trial.injected.size());
    ++row.runs;
    ++(!trial.error.empty()                ? row.errors
       : trial.digest != bits              ? row.silent
       : stalled && !trial.stalled.empty() ? row.stalls
                                           : row.same);
  }
  return row;
}

int run(int faults) {
  std::vector<NamedPlan> plans = small_plans(2, 2);
  std::erase_if(plans, [](const NamedPlan& named) { return named.plan.program.copies.empty(); });
  const std::uint64_t bits = run_with_faults(plans[0].plan, {.rate = 0}, Seconds(60)).digest;
  fmt::print(
      "| fault | faults met | runs | same bits | named error | named stall | silent | silent without checksums |\n");
  fmt::print("|---|---|---|---|---|---|---|---|\n");
  int silent = 0;
  const auto show = [&](const char* name, const std::vector<Fault>& kinds) {
    const Row row = meet(plans, kinds, faults, bits, true), bare = meet(plans, kinds, faults, bits, false);
    fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} of {} |\n", name, row.faults, row.runs, row.same, row.errors,
               row.stalls, row.silent, bare.silent, bare.runs);
    silent += row.silent;
  };
  for (const Fault fault : all_faults) show(name_of(fault), {fault});
  show("all, mixed", {std::begin(all_faults), std::end(all_faults)});
  return silent > 0 ? 1 : 0;
}

}  // namespace
}  // namespace memo::exec

int main(int argc, char** argv) {
  const int faults = argc > 1 ? std::atoi(argv[1]) : 1000;
  return memo::exec::run(faults > 0 ? faults : 1000);
}
