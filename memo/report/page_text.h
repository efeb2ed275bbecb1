// How a page of ours is put together from its template and its data.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace memo::report {

// JSON inside of a script element: no "</script>" or "<!--" whatever names are in it.
std::string script_text(const nlohmann::ordered_json& json);

// `page` with each mark, in order, replaced by its part. Marks are looked for in the page alone, not in what is put in.
std::string filled(std::string_view page, std::span<const std::pair<std::string_view, std::string>> parts);

}  // namespace memo::report
