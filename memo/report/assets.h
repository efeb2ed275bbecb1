// Files built into the library: those of memo/report/page, and the chart library from the system's package
// (CMakeLists.txt).
#pragma once

#include <string_view>

namespace memo::report::assets {

extern const std::string_view html, style, script, chart_library, lines_html, lines_script;

}  // namespace memo::report::assets
