// Estimates as people and programs read them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/estimate/sweep.h"

namespace memo::cli {

// `price`: of a GPU hour; 0: none is told.
nlohmann::json estimate_json(const estimate::Found& found, double price);
std::string estimate_text(const estimate::Found& found, double price);
// A line on a strategy that is not among the best: slower by what, or too large.
std::string why_not(const estimate::Found& found, const estimate::Outcome& outcome);

// A table of the longest contexts, strategies down, GPUs across.
std::string sweep_text(const std::vector<estimate::SweepCell>& cells, const std::vector<int>& gpus);
inline constexpr FileKind sweep_csv_kind{"a sweep", "strategy,gpus,longest_context,"};
std::string sweep_csv(const std::vector<estimate::SweepCell>& cells);
inline constexpr FileKind sweep_page_kind{"a sweep's page", "<!DOCTYPE html>", "<title>Memo estimate</title>"};
// One page with a chart (memo/report/lines_page.h).
std::string sweep_page(const std::string& title, const std::vector<estimate::SweepCell>& cells,
                       const std::vector<int>& gpus);

}  // namespace memo::cli
