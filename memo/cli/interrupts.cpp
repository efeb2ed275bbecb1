// The signal handler and its counters.
#include "memo/cli/interrupts.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "memo/base/result.h"

namespace memo::cli {
namespace {

std::atomic<int> interrupt_count{0};  // a signal handler can only reach globals
std::atomic<unsigned> seen{0};        // bits: 1 SIGINT or SIGTERM, 2 SIGUSR1, 4 SIGUSR2

// No bit for signals that come several times for one event: a closing terminal sends SIGHUP and has the shell send
// another, and the kernel repeats SIGXCPU every second.
unsigned bit_of(int signal) {
  switch (signal) {
    case SIGINT:
    case SIGTERM:
      return 1;
    case SIGUSR1:
      return 2;
    case SIGUSR2:
      return 4;
    default:
      return 0;
  }
}

void on_interrupt(int signal) {
  const int error = errno;  // errno of the interrupted code
  const unsigned bit = bit_of(signal);
  if ((seen.fetch_or(bit) & bit) != 0) ::_exit(static_cast<int>(ErrorKind::interrupted));
  if (interrupt_count.fetch_add(1) == 0) {
    constexpr char text[] = "\nends after what is under way; once more to end at once\n";
    const ssize_t ignored = ::write(STDERR_FILENO, text, sizeof text - 1);  // fails if the terminal is gone
    (void)ignored;
  }
  errno = error;
}

// Leaves signals ignored that the parent process ignores, as nohup does with SIGHUP.
void ask_at(int signal) {
  struct sigaction now {};
  if (::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN) return;
  std::signal(signal, on_interrupt);
}

}  // namespace

const std::atomic<int>& interrupts() {
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, on_interrupt);
  for (const int signal : {SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) ask_at(signal);
  return interrupt_count;
}

}  // namespace memo::cli
