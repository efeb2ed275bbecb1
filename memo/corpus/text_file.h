// Refuses files that are given as text but hold something else, since their bytes would be trained on as tokens.
#pragma once

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::corpus {

// Refuses compressed files, tables, arrays and others by name and first bytes, and says what to do.
Status check_text_file(const Path& file);

}  // namespace memo::corpus
