// JSON as text, both ways.
#include "memo/base/json.h"

#include <nlohmann/json.hpp>

namespace memo {

using nlohmann::json;
using nlohmann::ordered_json;

std::string json_text(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

std::string json_text(const ordered_json& value, int indent) {
  return value.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

std::string ascii_json_text(const json& value) { return value.dump(-1, ' ', true, json::error_handler_t::replace); }

std::string ascii_json_text(const ordered_json& value) {
  return value.dump(-1, ' ', true, ordered_json::error_handler_t::replace);
}

json json_of(std::string_view text) { return json::parse(text, nullptr, false); }

ordered_json ordered_json_of(std::string_view text) { return ordered_json::parse(text, nullptr, false); }

}  // namespace memo
