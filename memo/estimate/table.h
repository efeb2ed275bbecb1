// CSV of any columns, by name. Parsed and quoted by libcsv.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::estimate {

struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // each as long as `columns`

  [[nodiscard]] int find(std::string_view column) const;  // -1: none
};

// A file without columns, or a row with more cells than columns, is named by its line.
Result<Table> read_table(const Path& path);
std::string format_table(const Table& table);

}  // namespace memo::estimate
