// CSV tables of any columns, by name. libcsv parses and quotes.
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

// An error names the line of a row with more cells than columns; a file without columns is refused.
Result<Table> read_table(const Path& path);
std::string format_table(const Table& table);

}  // namespace memo::estimate
