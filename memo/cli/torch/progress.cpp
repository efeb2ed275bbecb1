// Lines and bars for steps, fitted to the terminal.
#include "memo/cli/torch/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "memo/base/text.h"
#include "memo/cli/interrupts.h"
#include "memo/cli/planning.h"
#include "memo/model/shape.h"

namespace memo::cli {
namespace {

std::size_t terminal_columns() {
  constexpr std::size_t usual = 80, least = 10;
  winsize size{};
  const bool told = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return told ? std::max<std::size_t>(size.ws_col, least) : usual;
}

// Memory and remaining time: memory is the same for every step.
std::string held_and_left(const plan::Plan& plan, const libtorch::StepLine& line) {
  std::string text = fmt::format("  device {}", format_bytes(plan.predicted.device_peak));
  for (std::size_t t = 0; t < plan.profile.tiers.size(); ++t)
    if (plan.program.tier_bytes[t] > Bytes(0))
      text += fmt::format("  {} {}", plan.profile.tiers[t].name, format_bytes(plan.program.tier_bytes[t]));
  const auto steps_left = static_cast<double>(line.steps - line.step);
  return steps_left > 0 ? text + fmt::format("  {} left", format_seconds(line.seconds * steps_left)) : text;
}

void show(const plan::Plan& plan, double flops, const libtorch::StepLine& line) {
  std::string text =
      fmt::format("step {}/{}  loss {:.4f}  lr {:.2e}  norm {:.2f}  {}  stall {:.1f} %  {:.0f} tokens/s", line.step,
                  line.steps, line.loss, line.lr, line.gradient_norm, format_seconds(line.seconds),
                  100 * line.stall.value() / line.seconds.value(), line.tokens_per_second);
  if (flops > 0) text += fmt::format("  {:.0f} GFLOP/s", flops / line.seconds.value() / 1e9);
  text += held_and_left(plan, line);
  if (::isatty(STDERR_FILENO) == 0) {
    std::fputs((text + "\n").c_str(), stderr);
    return;
  }
  constexpr std::int64_t width = 20;
  const auto done = static_cast<std::size_t>(width * line.step / line.steps);
  const std::string bar = fmt::format("[{}{}] ", std::string(done, '#'), std::string(width - done, '.'));
  // A wrapped line could not be redrawn: on a narrow terminal the bar is left out first, then the end of the text.
  const std::size_t room = terminal_columns() - 1;
  text = bar.size() + text.size() <= room ? bar + text : text.substr(0, room);
  std::fputs(fmt::format("\r\x1b[K{}{}", text, line.step == line.steps ? "\n" : "").c_str(), stderr);
  std::fflush(stderr);
}

void show_check(std::int64_t step, const exec::CheckReport& check) {
  say(
      fmt::format("check: step {} ran clean: {} accesses of three streams, {} pairs in conflict, each ordered by an "
                  "event; {} poisoned while free or not filled",
                  step, check.accesses, check.conflicts, format_bytes(check.poisoned)));
}

// Exits at once: a thread that waits in the kernel for a dead disk cannot be joined.
[[noreturn]] void end_stalled(const Path& out, bool saves, const std::string& what) {
  const std::string rest =
      saves ? fmt::format("; what was saved in {} stays valid: go on with --resume", out.string()) : "";
  say(one_line(fmt::format("memo: {}; the disk hangs, or is slower than memory.watchdog allows{}", what, rest)));
  ::_exit(static_cast<int>(ErrorKind::run_time));
}

}  // namespace

libtorch::TrainRequest shown_run(const Path& out, const job::Job& job, const plan::Plan& plan) {
  const Result<model::Shape> shape = model::job_shape(job);
  // With documents apart, attention's FLOPs depend on the data.
  const bool known = shape && !job.data.documents_apart;
  const double flops = known ? job.train.batch * model::model_flops(*shape, job.train.context, true) : 0;
  libtorch::TrainRequest request;
  request.out = out;
  request.on_step = [&plan, flops](const libtorch::StepLine& line) { show(plan, flops, line); };
  request.on_check = show_check;
  request.on_note = [](const std::string& line) { say(one_line(line)); };
  const bool saves = job.train.saves();
  request.on_stall = [out, saves](const std::string& what) { end_stalled(out, saves, what); };
  request.interrupted = &interrupts();
  return request;
}

}  // namespace memo::cli
