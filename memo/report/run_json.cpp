// Reads summary.json, metrics.jsonl, timeline.json and eval.json, and names the first mistake.
#include "memo/report/run_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <sstream>

#include "memo/base/json.h"
#include "memo/plan/json_cursor.h"

namespace memo::report {
namespace {

using plan::JsonCursor;

// Applies `read` to the document; an error names the file and the first mistake.
template <class Read>
auto checked(const nlohmann::json& document, const std::string& where, Read&& read)
    -> Result<decltype(read(std::declval<JsonCursor>()))> {
  std::string failure;
  auto value = read(JsonCursor(document, "", failure));
  if (!failure.empty()) return bad_input(fmt::format("{}: {}", where, failure));
  return value;
}

// A number, or null, which stands for a number that is not finite, since JSON has no NaN.
double number_or_nan(const JsonCursor& at) {
  return !at.failed() && at.value().is_null() ? std::numeric_limits<double>::quiet_NaN() : at.number();
}

// Reads rows of [index, start, end] in microseconds.
std::vector<sim::Interval> spans(const JsonCursor& rows, std::size_t count) {
  std::vector<sim::Interval> result(rows.size());
  for (std::size_t i = 0; i < result.size() && !rows.failed(); ++i) {
    constexpr std::size_t index = 0, start = 1, end = 2;
    const JsonCursor row = rows.at(i);
    if (row.size() != 3) row.fail("expected [index, start, end]");
    result[i].index = static_cast<int>(row.at(index).integer(0, static_cast<std::int64_t>(count) - 1));
    result[i].start = row.at(start).number() * 1e-6;
    result[i].end = row.at(end).number() * 1e-6;
    if (!row.failed() && result[i].end < result[i].start) row.fail("ends before it starts");
  }
  return result;
}

sim::Timeline measured_timeline(const JsonCursor& document, const plan::Program& program) {
  constexpr int version = 1;
  if (const int found = document.at("version").integer(); found != version)
    document.at("version").fail(fmt::format("is {}, this memo reads {}", found, version));
  const JsonCursor streams = document.at("measured");
  sim::Timeline timeline;
  timeline.calls = spans(streams.at("calls"), program.calls.size());
  timeline.copies_out = spans(streams.at("copies_out"), program.copies.size());
  timeline.copies_in = spans(streams.at("copies_in"), program.copies.size());
  if (!document.failed() && timeline.calls.size() != program.calls.size())
    streams.at("calls").fail(fmt::format("has {} calls where plan.json has {}: they are of different runs",
                                         timeline.calls.size(), program.calls.size()));
  double end = 0;
  for (std::size_t k = 0; k < timeline.calls.size() && !document.failed(); ++k) {
    if (timeline.calls[k].index != static_cast<int>(k) || timeline.calls[k].start < end)
      streams.at("calls").at(k).fail("is out of order");
    end = timeline.calls[k].end;
  }
  for (const auto* lane : {&timeline.copies_out, &timeline.copies_in})
    if (!lane->empty()) end = std::max(end, lane->back().end);
  timeline.step = Seconds(end);
  return timeline;
}

}  // namespace

Result<std::vector<Step>> read_metrics(const Path& path) {
  MEMO_TRY(const std::string text, read_text(path));
  std::vector<Step> steps;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string where = fmt::format("{}: line {}", path.string(), number);
    const nlohmann::json object = json_of(line);
    if (object.is_discarded())
      return bad_input(fmt::format("{} is not JSON: the file is cut off, or foreign; remove the line", where));
    MEMO_TRY(const Step step, checked(object, where, [](const JsonCursor& at) {
               Step result;
               result.step = at.at("step").bytes().value();
               result.loss = number_or_nan(at.at("loss"));
               result.lr = at.at("lr").number();
               result.gradient_norm = number_or_nan(at.at("gradient_norm"));
               result.seconds = Seconds(at.at("seconds").number());
               result.stall = Seconds(at.at("stall_seconds").number());
               return result;
             }));
    steps.push_back(step);
  }
  return steps;
}

Result<Measured> read_summary(const Path& path) {
  MEMO_TRY(const nlohmann::json document, read_json(path));
  return checked(document, path.string(), [](const JsonCursor& at) {
    Measured m;
    m.device_peak = at.at("device_peak_bytes").bytes();
    m.step = Seconds(at.at("step_seconds").number());
    m.stall = Seconds(at.at("stall_seconds").number());
    m.bytes_out = at.at("bytes_out").bytes();
    m.bytes_in = at.at("bytes_in").bytes();
    m.process_peak_rss = at.at("process_peak_rss_bytes").bytes();
    m.tokens_per_second = at.at("tokens_per_second").number();
    m.loss_digest = at.at("loss_digest").text();
    m.departures = at.at("departures").bytes().value();
    m.first_departure = at.at("first_departure").text();
    return m;
  });
}

Result<sim::Timeline> read_timeline(const Path& path, const plan::Program& program) {
  MEMO_TRY(const nlohmann::json document, read_json(path));
  MEMO_TRY(sim::Timeline timeline,
           checked(document, path.string(), [&](const JsonCursor& at) { return measured_timeline(at, program); }));
  return timeline;
}

Result<LossByPosition> read_loss_by_position(const Path& path) {
  MEMO_TRY(const nlohmann::json document, read_json(path));
  return checked(document, path.string(), [](const JsonCursor& at) {
    constexpr std::size_t most = 256;  // number of points that a picture can show
    const JsonCursor list = at.at("by_position");
    const std::size_t size = list.size(), spans = std::min(size, most);
    LossByPosition result{static_cast<std::int64_t>(size), std::vector<double>(spans)};
    for (std::size_t span = 0; span < spans; ++span) {
      const std::size_t begin = span * size / spans, end = (span + 1) * size / spans;
      for (std::size_t i = begin; i < end && !at.failed(); ++i) result.losses[span] += list.at(i).number();
      result.losses[span] /= static_cast<double>(end - begin);
    }
    return result;
  });
}

}  // namespace memo::report
