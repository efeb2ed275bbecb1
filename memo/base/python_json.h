// JSON as Python's json module writes it: with Infinity, -Infinity and NaN, which JSON does not have.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo {

Result<nlohmann::json> parse_python_json(std::string_view text, const Path& where);
Result<nlohmann::json> read_python_json(const Path& path);
// Indented by so many spaces; -1: on one line.
std::string python_json_text(const nlohmann::json& value, int indent = 2);

}  // namespace memo
