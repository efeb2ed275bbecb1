// A page of lines over one axis, with a table of their values: it shows a sweep of estimates.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace memo::report {

struct Line {
  std::string name;
  std::vector<std::optional<double>> values;  // a value for each x of the page; none: no point
};

struct Lines {
  std::string title, subtitle, x_title, y_title;
  std::vector<double> x;
  std::vector<Line> lines;
};

// One HTML file that loads nothing from the network; both axes are powers of two.
std::string lines_page(const Lines& lines);

}  // namespace memo::report
