// JSON as text, both ways, compiled once: the library's parser and writer are templates, and each source that used them
// by itself would compile them again.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace memo {

// Indented by so many spaces; -1: on one line. Bytes that are not UTF-8, as a file's name may have, are replaced by
// U+FFFD.
std::string json_text(const nlohmann::json& value, int indent = -1);
std::string json_text(const nlohmann::ordered_json& value, int indent = -1);
// On one line, with all other characters than ASCII's escaped.
std::string ascii_json_text(const nlohmann::json& value);
std::string ascii_json_text(const nlohmann::ordered_json& value);

// `is_discarded()` if the text is not JSON. read_json (file.h) says what is wrong with a file.
nlohmann::json json_of(std::string_view text);
nlohmann::ordered_json ordered_json_of(std::string_view text);

}  // namespace memo
