// How long a large plan takes to be read and proved: bench_large_plans. Both grow with the plan, no faster.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "../tests/plan/naive_plan.h"
#include "../tests/plan/tiny_plan.h"
#include "memo/check/validate.h"

namespace memo::plan {
namespace {

Plan large_plan(int blocks) {
  Profile profile = tiny_profile();
  profile.flow.layers = 32;
  profile.flow.context = profile.flow.block * blocks - Tokens(1);
  for (Trace& trace : profile.traces)
    if (trace.segment == tiny_core || trace.segment == tiny_optimizer) trace.tokens = profile.flow.context;
  return naive_plan(profile);
}

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int run() {
  const Path file = std::filesystem::temp_directory_path() / fmt::format("memo-large-plan-{}.json", ::getpid());
  bool good = true;
  fmt::print("| residencies | file | read s | validate s |\n|---|---|---|---|\n");
  for (const int blocks : {300, 600, 1200}) {
    const Plan plan = large_plan(blocks);
    good = good && write_plan(plan, file);
    const auto size = std::filesystem::file_size(file);
    const double read = seconds_of([&] { good = good && read_plan(file); });
    const double proved = seconds_of([&] { good = good && check::validate(plan).empty(); });
    fmt::print("| {} | {:.1f} MB | {:.2f} | {:.2f} |\n", plan.program.residencies.size(),
               static_cast<double>(size) * 1e-6, read, proved);
  }
  std::filesystem::remove(file);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace memo::plan

int main() { return memo::plan::run(); }
