// A step as a trace for Perfetto (Trace Event Format, JSON): streams as threads, memory as counters.
#pragma once

#include <string>
#include <vector>

#include "memo/report/subject.h"

namespace memo::report {

inline constexpr FileKind trace_kind{"a trace", "{\"displayTimeUnit\":\"ms\",\"traceEvents\":["};
// One process for each subject and timeline ("RUN, predicted", "RUN, measured") with threads compute, stalls, copy-out
// and copy-in, and counters "device bytes" and "<tier> bytes". Times are in microseconds.
std::string perfetto_trace(const std::vector<Subject>& subjects);

}  // namespace memo::report
