// Events of streams, stalls and memory in the trace's JSON.
#include "memo/report/perfetto.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "memo/base/index.h"
#include "memo/base/json.h"
#include "memo/report/occupancy.h"
#include "memo/report/stalls.h"

namespace memo::report {
namespace {

std::string quoted(const std::string& text) { return ascii_json_text(nlohmann::json(text)); }

enum Thread { compute = 1, stall, copy_out, copy_in };

class Process {
 public:
  Process(std::string& out, int pid, const Subject& subject, const sim::Timeline& timeline)
      : out_(out), pid_(pid), plan_(subject.plan), timeline_(timeline) {}

  void write(const std::string& name) {
    metadata("process_name", 0, name);
    metadata("thread_name", compute, "compute");
    metadata("thread_name", stall, "stalls");
    metadata("thread_name", copy_out, "copy-out");
    metadata("thread_name", copy_in, "copy-in");
    for (const sim::Interval& span : timeline_.calls)
      slice(compute, call_name(plan::CallIndex(span.index)), span.start, span.end, "");
    for (const Stall& wait : stalls(plan_.program, timeline_))
      slice(stall, "wait for " + copy_name(wait.copy), wait.start, wait.start + wait.seconds.value(), "");
    for (const sim::Interval& span : timeline_.copies_out) copy(copy_out, span);
    for (const sim::Interval& span : timeline_.copies_in) copy(copy_in, span);
    counters();
  }

 private:
  void begin(char phase, int thread) {
    out_ +=
        fmt::format("{}{{\"ph\":\"{}\",\"pid\":{},\"tid\":{}", out_.back() == '[' ? "\n" : ",\n", phase, pid_, thread);
  }
  void metadata(const char* what, int thread, const std::string& name) {
    begin('M', thread);
    out_ += fmt::format(",\"name\":\"{}\",\"args\":{{\"name\":{}}}}}", what, quoted(name));
  }
  void slice(Thread thread, const std::string& name, double start, double end, const std::string& arguments) {
    begin('X', thread);
    out_ += fmt::format(",\"name\":{},\"ts\":{:.3f},\"dur\":{:.3f},\"args\":{{{}}}}}", quoted(name), start * 1e6,
                        (end - start) * 1e6, arguments);
  }
  void copy(Thread thread, const sim::Interval& span) {
    const plan::Copy& copy = plan_.program.copies[at(span.index)];
    const Bytes bytes = plan_.program.tensors[plan_.program.residencies[copy.residency].tensor].bytes;
    slice(thread, copy_name(span.index), span.start, span.end,
          fmt::format("\"bytes\":{},\"tier\":{}", bytes.value(), quoted(plan_.profile.tiers[at(copy.tier)].name)));
  }
  void count(const std::string& name, double time, Bytes bytes) {
    begin('C', 0);
    out_ +=
        fmt::format(",\"name\":{},\"ts\":{:.3f},\"args\":{{\"bytes\":{}}}}}", quoted(name), time * 1e6, bytes.value());
  }

  // Keeps only changes: a counter holds its value until the next event.
  void counters() {
    const Occupancy live = occupancy(plan_);
    series("device bytes", live.device);
    for (std::size_t t = 0; t < live.tiers.size(); ++t) series(plan_.profile.tiers[t].name + " bytes", live.tiers[t]);
  }
  void series(const std::string& name, const IndexedVector<plan::CallIndex, Bytes>& values) {
    Bytes before(-1);
    for (std::size_t k = 0; k < timeline_.calls.size(); ++k)
      if (const Bytes now = values[plan::CallIndex(k)]; now != before)
        count(name, timeline_.calls[k].start, before = now);
    count(name, timeline_.step.value(), before);
  }

  [[nodiscard]] std::string call_name(plan::CallIndex index) const {
    const plan::Call& call = plan_.program.calls[index];
    const char* phase = call.phase == plan::Phase::forward ? "" : call.phase == plan::Phase::backward ? "'" : " rerun";
    std::string name = plan_.profile.flow.segments[call.segment].name + phase;
    if (plan_.profile.flow.each_layer(call.segment)) name += fmt::format(" layer {}", call.layer);
    if (call.block.exists()) name += fmt::format(" block {}", call.block);
    if (call.group >= 0) name += fmt::format(" group {}", call.group);
    return name;
  }
  [[nodiscard]] std::string copy_name(int index) const {
    const plan::Program& program = plan_.program;
    const plan::Copy& copy = program.copies[at(index)];
    const plan::Tensor& tensor = program.tensors[program.residencies[copy.residency].tensor];
    return fmt::format("{} layer {} block {} {}", plan_.profile.flow.classes[tensor.cls].name, tensor.layer,
                       tensor.block, copy.direction == plan::Direction::out ? "out" : "in");
  }

  std::string& out_;
  int pid_;
  const plan::Plan& plan_;
  const sim::Timeline& timeline_;
};

}  // namespace

std::string perfetto_trace(const std::vector<Subject>& subjects) {
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  int pid = 0;
  for (const Subject& subject : subjects) {
    Process(out, ++pid, subject, subject.predicted).write(subject.name + ", predicted");
    if (subject.timeline) Process(out, ++pid, subject, *subject.timeline).write(subject.name + ", measured");
  }
  return out + "\n]}\n";
}

}  // namespace memo::report
