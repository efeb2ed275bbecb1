// Shows estimates as text and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/estimate/sweep.h"

namespace memo::cli {

// `price`: of a GPU hour; 0: not shown.
nlohmann::json estimate_json(const estimate::Found& found, double price);
std::string estimate_text(const estimate::Found& found, double price);
// A line for a strategy that is not among the best: why it is slower, or that it is too large.
std::string why_not(const estimate::Found& found, const estimate::Outcome& outcome);

// A table of the longest contexts: strategies down, GPUs across.
std::string sweep_text(const std::vector<estimate::SweepCell>& cells, const std::vector<int>& gpus);
inline constexpr FileKind sweep_csv_kind{"a sweep", "strategy,gpus,longest_context,"};
std::string sweep_csv(const std::vector<estimate::SweepCell>& cells);
inline constexpr FileKind sweep_page_kind{"a sweep's page", "<!DOCTYPE html>", "<title>Memo estimate</title>"};
// A page with a chart of them (memo/report/lines_page.h).
std::string sweep_page(const std::string& title, const std::vector<estimate::SweepCell>& cells,
                       const std::vector<int>& gpus);

}  // namespace memo::cli
