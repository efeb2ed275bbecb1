// The data of one subject for the page's script: numbers and names as JSON, long tables as columns.
#pragma once

#include <nlohmann/json.hpp>

#include "memo/report/subject.h"

namespace memo::report {

nlohmann::ordered_json page_data(const Subject& subject);

}  // namespace memo::report
