#include "memo/report/lines_page.h"

#include <array>

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
  const std::array<std::pair<std::string_view, std::string>, 4> parts{
      {{"/*style*/", std::string(assets::style)},
       {"/*data*/", script_text(data)},
       {"/*chart_library*/", std::string(assets::chart_library)},
       {"/*script*/", std::string(assets::lines_script)}}};
  return filled(assets::lines_html, parts);
}

}  // namespace memo::report
