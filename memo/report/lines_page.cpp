// Puts lines into the page's template.
#include "memo/report/lines_page.h"

#include "memo/report/assets.h"
#include "memo/report/page_text.h"

namespace memo::report {

std::string lines_page(const Lines& lines) {
  nlohmann::ordered_json data{{"title", lines.title},
                              {"subtitle", lines.subtitle},
                              {"x_title", lines.x_title},
                              {"y_title", lines.y_title},
                              {"x", lines.x},
                              {"lines", nlohmann::ordered_json::array()}};
  for (const Line& line : lines.lines) {
    nlohmann::ordered_json values = nlohmann::ordered_json::array();
    for (const std::optional<double>& value : line.values) value ? values.push_back(*value) : values.push_back(nullptr);
    data["lines"].push_back({{"name", line.name}, {"values", std::move(values)}});
  }
  return filled(assets::lines_html, data, assets::lines_script);
}

}  // namespace memo::report
