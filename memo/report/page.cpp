// Puts the subjects' data into the report's template.
#include "memo/report/page.h"

#include "memo/base/version.h"
#include "memo/report/assets.h"
#include "memo/report/page_data.h"
#include "memo/report/page_text.h"

namespace memo::report {

std::string page(const std::vector<Subject>& subjects) {
  nlohmann::ordered_json data{{"memo", version}, {"subjects", nlohmann::ordered_json::array()}};
  for (const Subject& subject : subjects) data["subjects"].push_back(page_data(subject));
  return filled(assets::html, data, assets::script);
}

}  // namespace memo::report
