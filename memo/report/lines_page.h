// Lines on one page, with their table: what a sweep of estimates shows.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace memo::report {

struct Line {
  std::string name;
  std::vector<std::optional<double>> values;  // one for each of the page's x; none: no point
};

struct Lines {
  std::string title, subtitle, x_title, y_title;
  std::vector<double> x;
  std::vector<Line> lines;
};

// One HTML file that asks nothing of the network; both axes are powers of two.
std::string lines_page(const Lines& lines);

}  // namespace memo::report
