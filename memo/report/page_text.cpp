#include "memo/report/page_text.h"

#include "memo/base/check.h"

namespace memo::report {

std::string script_text(const nlohmann::ordered_json& json) {
  const std::string text = json.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) c == '<' ? safe += "\\u003c" : safe += c;
  return safe;
}

std::string filled(std::string_view page, std::span<const std::pair<std::string_view, std::string>> parts) {
  std::string text;
  for (const auto& [mark, part] : parts) {
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
