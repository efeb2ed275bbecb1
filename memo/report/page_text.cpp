// Inserts parts at marks, and makes JSON safe inside of a script element.
#include "memo/report/page_text.h"

#include <utility>

#include "memo/base/check.h"
#include "memo/base/json.h"
#include "memo/report/assets.h"

namespace memo::report {
namespace {

// JSON for a script element: escaped so that no name in it can form "</script>" or "<!--".
std::string script_text(const nlohmann::ordered_json& json) {
  const std::string text = ascii_json_text(json);
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) c == '<' ? safe += "\\u003c" : safe += c;
  return safe;
}

}  // namespace

std::string filled(std::string_view page, const nlohmann::ordered_json& data, std::string_view script) {
  const std::string data_text = script_text(data);
  const std::pair<std::string_view, std::string_view> parts[] = {{"/*style*/", assets::style},
                                                                 {"/*data*/", data_text},
                                                                 {"/*chart_library*/", assets::chart_library},
                                                                 {"/*script*/", script}};
  std::string text;
  for (const auto& [mark, part] : parts) {  // marks are searched in the template only, not in inserted text
    const std::size_t found = page.find(mark);
    MEMO_CHECK(found != std::string_view::npos, "the page has a place for everything that is put into it, in order");
    text += page.substr(0, found);
    text += part;
    page.remove_prefix(found + mark.size());
  }
  text += page;
  return text;
}

}  // namespace memo::report
