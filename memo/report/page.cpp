#include "memo/report/page.h"

#include <array>

#include "memo/base/version.h"
#include "memo/report/assets.h"
#include "memo/report/page_data.h"
#include "memo/report/page_text.h"

namespace memo::report {

std::string page(const std::vector<Subject>& subjects) {
  nlohmann::ordered_json data{{"memo", version}, {"subjects", nlohmann::ordered_json::array()}};
  for (const Subject& subject : subjects) data["subjects"].push_back(page_data(subject));
  const std::array<std::pair<std::string_view, std::string>, 4> parts{
      {{"/*style*/", std::string(assets::style)},
       {"/*data*/", script_text(data)},
       {"/*chart_library*/", std::string(assets::chart_library)},
       {"/*script*/", std::string(assets::script)}}};
  return filled(assets::html, parts);
}

}  // namespace memo::report
