#include "memo/cli/interrupts.h"

#include <unistd.h>

#include <csignal>

#include "memo/base/result.h"

namespace memo::cli {
namespace {

std::atomic<int> interrupt_count{0};  // a signal handler can only reach a global

void on_interrupt(int) {
  if (interrupt_count.fetch_add(1) > 0) ::_exit(static_cast<int>(ErrorKind::interrupted));
  constexpr char text[] = "\nends after what is under way; once more to end at once\n";
  const ssize_t ignored = ::write(STDERR_FILENO, text, sizeof text - 1);
  (void)ignored;
}

}  // namespace

const std::atomic<int>& interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  return interrupt_count;
}

}  // namespace memo::cli
