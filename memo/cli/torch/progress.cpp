#include "memo/cli/torch/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "memo/base/text.h"

namespace memo::cli {
namespace {

std::atomic<int> interrupt_count{0};  // a signal handler can only reach a global

void on_interrupt(int) {
  if (interrupt_count.fetch_add(1) > 0) ::_exit(static_cast<int>(ErrorKind::interrupted));
  constexpr char text[] = "\nends after this step; once more to end at once\n";
  const ssize_t ignored = ::write(STDERR_FILENO, text, sizeof text - 1);
  (void)ignored;
}

}  // namespace

const std::atomic<int>& interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  return interrupt_count;
}

void show_step(const edge::StepLine& line) {
  const std::string text =
      fmt::format("step {}/{}  loss {:.4f}  lr {:.2e}  norm {:.2f}  {}  stall {:.1f} %  {:.0f} tokens/s", line.step,
                  line.steps, line.loss, line.lr, line.gradient_norm, format_seconds(line.seconds),
                  100 * line.stall.value() / line.seconds.value(), line.tokens_per_second);
  if (::isatty(STDERR_FILENO) == 0) {
    std::fputs((text + "\n").c_str(), stderr);
    return;
  }
  constexpr std::int64_t width = 20;
  const auto done = static_cast<std::size_t>(width * line.step / line.steps);
  const std::string bar = std::string(done, '#') + std::string(width - done, '.');
  std::fputs(fmt::format("\r\x1b[K[{}] {}{}", bar, text, line.step == line.steps ? "\n" : "").c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace memo::cli
