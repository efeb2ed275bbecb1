// memo report RUN|PLAN...: shows plans and runs on one page, and as a trace for Perfetto.
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "memo/base/text.h"
#include "memo/cli/verb.h"
#include "memo/report/page.h"
#include "memo/report/perfetto.h"

namespace memo::cli {
namespace {

struct ReportOptions {
  std::vector<std::string> inputs;
  std::string out = "report.html", perfetto;
};

Status write_report(const ReportOptions& options) {
  MEMO_CHECKED(check_replaceable(options.out, report::page_kind));
  if (!options.perfetto.empty()) MEMO_CHECKED(check_replaceable(options.perfetto, report::trace_kind));
  std::vector<report::Subject> subjects;
  for (const std::string& input : options.inputs) {
    MEMO_TRY(report::Subject subject, report::read_subject(input));
    subjects.push_back(std::move(subject));
  }
  const auto write = [](const std::string& file, const std::string& text, const FileKind& kind) -> Status {
    MEMO_CHECKED(replace_file(file, text, kind));
    fmt::print("{}: {}\n", file, format_bytes(Bytes(static_cast<std::int64_t>(text.size()))));
    return {};
  };
  MEMO_CHECKED(write(options.out, report::page(subjects), report::page_kind));
  if (!options.perfetto.empty())
    MEMO_CHECKED(write(options.perfetto, report::perfetto_trace(subjects), report::trace_kind));
  return {};
}

}  // namespace

void add_report(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("report", "Show plans and runs on one page: memory, streams, prediction, loss");
  const auto options = std::make_shared<ReportOptions>();
  verb->add_option("inputs", options->inputs, "Run folders and plan files; several are compared")
      ->required()
      ->type_name("RUN|PLAN");
  verb->add_option("-o,--output", options->out, "Where to write the page")->capture_default_str();
  verb->add_option("--perfetto", options->perfetto, "Where to write a trace for ui.perfetto.dev");
  verb->callback([&action, options] { action = [options] { return write_report(*options); }; });
}

}  // namespace memo::cli
