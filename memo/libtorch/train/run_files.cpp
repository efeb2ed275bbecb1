// Writes metrics, timeline and summary, and reads the process's peak from /proc.
#include "memo/libtorch/train/run_files.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "memo/base/json.h"
#include "memo/sim/simulate.h"

namespace memo::libtorch {

Status write_run_file(const RunFile& file, const Path& run, std::string_view text) {
  return replace_file(run / file.name, text, file.kind);
}

Result<MetricsFile> MetricsFile::open(const Path& run, std::int64_t steps) {
  const Path path = run / metrics_file.name;
  std::string kept;
  if (steps > 0) {
    std::ifstream old(path);
    std::string line;
    for (std::int64_t i = 0; i < steps && std::getline(old, line); ++i) kept += line + "\n";
  }
  MEMO_CHECKED(write_run_file(metrics_file, run, kept));
  return MetricsFile(path);
}

Status MetricsFile::add(const StepLine& line) {
  nlohmann::ordered_json object{{"step", line.step},
                                {"loss", line.loss},
                                {"lr", line.lr},
                                {"gradient_norm", line.gradient_norm},
                                {"seconds", line.seconds.value()},
                                {"stall_seconds", line.stall.value()},
                                {"tokens_per_second", line.tokens_per_second}};
  if (line.skipped) object["skipped"] = true;
  if (line.spike) object["spike"] = true;
  std::ofstream file(path_, std::ios::app);
  file << json_text(object) << '\n';
  file.flush();
  if (!file) return run_time_error(fmt::format("{}: cannot write: is the disk full?", path_.string()));
  return {};
}

namespace {

// Rows of [index, start, end] in microseconds since the step began.
template <class Spans>
nlohmann::json rows_of(const Spans& spans, double origin) {
  nlohmann::json result = nlohmann::json::array();
  for (const auto& span : spans)
    result.push_back({span.index, std::llround((span.start - origin) * 1e6), std::llround((span.end - origin) * 1e6)});
  return result;
}

template <class Timeline>
nlohmann::json streams(const Timeline& timeline, double origin) {
  return {{"calls", rows_of(timeline.calls, origin)},
          {"copies_out", rows_of(timeline.copies_out, origin)},
          {"copies_in", rows_of(timeline.copies_in, origin)}};
}

}  // namespace

Status write_timeline(const plan::Plan& plan, const exec::StepReport& measured, const Path& run) {
  const double origin = measured.calls.empty() ? 0 : measured.calls.front().start;
  const nlohmann::json object{{"version", 1},
                              {"unit", "microseconds"},
                              {"columns", {"index", "start", "end"}},
                              {"measured", streams(measured, origin)},
                              {"predicted", streams(sim::simulate(plan.profile, plan.program), 0)}};
  return write_run_file(timeline_file, run, json_text(object));
}

std::string summary_json(const Summary& s) {
  const nlohmann::ordered_json object{{"strategy", s.strategy},
                                      {"context", s.context},
                                      {"steps", s.steps},
                                      {"loss_first", s.loss_first},
                                      {"loss_last", s.loss_last},
                                      {"loss_digest", s.loss_digest},
                                      {"grad_digest", s.grad_digest},
                                      {"device_peak_bytes", s.device_peak.value()},
                                      {"device_peak_bytes_predicted", s.device_peak_predicted.value()},
                                      {"step_seconds", s.step.value()},
                                      {"step_seconds_predicted", s.step_predicted.value()},
                                      {"tokens_per_second", s.tokens_per_second},
                                      {"stall_seconds", s.stall.value()},
                                      {"stall_seconds_predicted", s.stall_predicted.value()},
                                      {"copy_cpu_seconds", s.copy_cpu.value()},
                                      {"bytes_out", s.bytes_out.value()},
                                      {"bytes_in", s.bytes_in.value()},
                                      {"process_peak_rss_bytes", s.process_peak_rss.value()},
                                      {"departures", s.departures},
                                      {"first_departure", s.first_departure}};
  return json_text(object);
}

void reset_peak_rss() { std::ofstream("/proc/self/clear_refs") << "5"; }

Bytes peak_rss() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line))
    if (line.starts_with("VmHWM:")) return Bytes(std::stoll(line.substr(6)) * 1024);
  return Bytes(0);
}

}  // namespace memo::libtorch
