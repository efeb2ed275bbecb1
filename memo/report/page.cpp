#include "memo/report/page.h"

#include <string_view>
#include <utility>

#include "memo/base/check.h"
#include "memo/base/version.h"
#include "memo/report/assets.h"
#include "memo/report/page_data.h"

namespace memo::report {
namespace {

// JSON inside of a script element: no "</script>" or "<!--" whatever names are in it.
std::string script_text(const nlohmann::ordered_json& json) {
  const std::string text = json.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) c == '<' ? safe += "\\u003c" : safe += c;
  return safe;
}

}  // namespace

std::string page(const std::vector<Subject>& subjects) {
  nlohmann::ordered_json data{{"memo", version}, {"subjects", nlohmann::ordered_json::array()}};
  for (const Subject& subject : subjects) data["subjects"].push_back(page_data(subject));
  const std::pair<std::string_view, std::string> parts[] = {{"/*style*/", std::string(assets::style)},
                                                            {"/*data*/", script_text(data)},
                                                            {"/*chart_library*/", std::string(assets::chart_library)},
                                                            {"/*script*/", std::string(assets::script)}};
  std::string text;
  std::string_view rest = assets::html;
  for (const auto& [mark, part] : parts) {  // marks are looked for in the page alone, not in what is put into it
    const std::size_t found = rest.find(mark);
    MEMO_CHECK(found != std::string_view::npos, "the page has a place for everything that is put into it, in order");
    text += rest.substr(0, found);
    text += part;
    rest.remove_prefix(found + mark.size());
  }
  text += rest;
  return text;
}

}  // namespace memo::report
