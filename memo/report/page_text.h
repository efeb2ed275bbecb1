// How a page of ours is put together from its template and its data.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace memo::report {

// `page` with the style sheet, `data`, the chart library and `script` in the places that it marks for them, in this
// order.
std::string filled(std::string_view page, const nlohmann::ordered_json& data, std::string_view script);

}  // namespace memo::report
