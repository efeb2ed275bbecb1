// Files that are given as text but hold something else: their bytes would become tokens all the same.
#pragma once

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::corpus {

// Refuses what is compressed, a table, an array, ... by its name and by how it begins, and says what to do.
Status check_text_file(const Path& file);

}  // namespace memo::corpus
