// The memo command: finds the verb, runs it, and turns every way to fail into one line and an exit code.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>

#include "memo/base/text.h"
#include "memo/base/version.h"
#include "memo/cli/verb.h"

namespace memo::cli {
namespace {

int report(ErrorKind kind, const std::string& message) {
  std::fputs(("memo: " + one_line(message) + "\n").c_str(), stderr);
  return static_cast<int>(kind);
}

std::vector<std::string> verbs(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(verb->get_name());
  return names;
}

std::vector<std::string> flags(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

// Reports arguments that were not understood first: they often explain why something else is missing.
int usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  const CLI::App& at = chosen.empty() ? app : *chosen.front();
  const std::string name = chosen.empty() ? "memo" : "memo " + at.get_name();

  std::string what = error.what();
  const std::vector<std::string> extras = app.remaining(true);
  if (!extras.empty()) {
    const std::string& extra = extras.front();
    const bool flag = extra.starts_with('-');
    const bool verb = !flag && chosen.empty();
    const std::string near =
        flag ? nearest_name(extra.substr(0, extra.find('=')), flags(at)) : nearest_name(extra, verbs(app));
    what = fmt::format("{} '{}'", flag ? "unknown option" : verb ? "unknown verb" : "unexpected argument", extra);
    if ((flag || verb) && !near.empty()) what += fmt::format(" (did you mean '{}'?)", near);
  } else if (chosen.empty()) {
    what = fmt::format("name a verb: {}", fmt::join(verbs(app), ", "));
  }
  if (!chosen.empty()) what = at.get_name() + ": " + what;
  return report(ErrorKind::bad_input, fmt::format("{}; see '{} --help'", what, name));
}

int run(int argc, char** argv) {
  CLI::App app("Memo trains language models on contexts that do not fit in memory.", "memo");
  app.set_version_flag("--version", fmt::format("memo {}", version));
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 2 usage or bad input, 3 proved infeasible, 4 stopped by a time limit, 5 run-time "
      "failure, 130 interrupted.\n'memo VERB --help' tells more about a verb.");
  Action action;
  add_doctor(app, action);
  add_plan(app, action);
  add_check(app, action);
  add_profile(app, action);
  add_train(app, action);
  add_compare(app, action);
  add_eval(app, action);
  add_report(app, action);
  add_estimate(app, action);
  add_pack(app, action);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return error.get_exit_code() == 0 ? app.exit(error) : usage_error(app, error);
  }
  const Status status = action();
  if (!status) return report(status.error().kind, status.error().message);
  return 0;
}

int run_and_report(int argc, char** argv) {
  // If the reader goes away (memo ... | head), only the output ends, not the work.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // so that a limit on file sizes fails the write
  try {
    const int code = run(argc, argv);
    if (std::fflush(stdout) != 0 && errno != EPIPE && code == 0)
      return report(ErrorKind::run_time, fmt::format("cannot write to standard output: {}", std::strerror(errno)));
    return code;
  } catch (const std::bad_alloc&) {
    return report(ErrorKind::run_time, "out of memory; lower [memory] device_limit, or close other programs");
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::broken_pipe) return 0;
    return report(ErrorKind::run_time, error.what());
  } catch (const std::exception& error) {
    const std::string text = error.what();  // LibTorch's goes on with a backtrace
    return report(ErrorKind::run_time, text.substr(0, text.find('\n')));
  }
}

}  // namespace
}  // namespace memo::cli

int main(int argc, char** argv) {
  const int code = memo::cli::run_and_report(argc, argv);
  // Ends without the destructors of global objects: LibTorch's unregister thousands of operators, for 80 ms.
  std::fflush(nullptr);
  std::quick_exit(code);
}
