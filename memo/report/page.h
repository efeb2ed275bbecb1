// The report: one HTML file that holds its data, its code and its chart library, and asks nothing of the network.
#pragma once

#include <string>
#include <vector>

#include "memo/report/subject.h"

namespace memo::report {

inline constexpr FileKind page_kind{"a report", "<!DOCTYPE html>", "<title>Memo report</title>"};
std::string page(const std::vector<Subject>& subjects);

}  // namespace memo::report
