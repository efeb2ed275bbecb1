// Fills the template of a page with its data and scripts.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace memo::report {

// `page` with the style sheet, `data`, the chart library and `script` inserted at its marks, in this order.
std::string filled(std::string_view page, const nlohmann::ordered_json& data, std::string_view script);

}  // namespace memo::report
