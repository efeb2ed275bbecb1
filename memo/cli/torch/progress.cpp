#include "memo/cli/torch/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "memo/base/text.h"

namespace memo::cli {

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
