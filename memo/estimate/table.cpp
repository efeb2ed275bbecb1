// Reads and writes CSV.
#include "memo/estimate/table.h"

#include <csv.h>
#include <fmt/format.h>

#include <algorithm>

namespace memo::estimate {
namespace {

struct Collected {
  std::vector<std::vector<std::string>> rows{{}};
};

void on_cell(void* cell, std::size_t size, void* to) {
  static_cast<Collected*>(to)->rows.back().emplace_back(static_cast<const char*>(cell), size);
}
void on_row(int, void* to) { static_cast<Collected*>(to)->rows.emplace_back(); }

}  // namespace

int Table::find(std::string_view column) const {
  const auto found = std::ranges::find(columns, column);
  return found == columns.end() ? -1 : static_cast<int>(found - columns.begin());
}

Result<Table> read_table(const Path& path) {
  MEMO_TRY(const std::string text, read_text(path));
  Collected collected;
  csv_parser parser;
  if (csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI) != 0) return run_time_error("libcsv does not start");
  const std::size_t parsed = csv_parse(&parser, text.data(), text.size(), on_cell, on_row, &collected);
  const bool whole = parsed == text.size() && csv_fini(&parser, on_cell, on_row, &collected) == 0;
  csv_free(&parser);
  if (!whole)
    return bad_input(fmt::format("{}: broken quotes in or after row {}", path.string(), collected.rows.size()));
  collected.rows.pop_back();
  if (collected.rows.empty()) return bad_input(path.string() + ": no columns in it");
  Table table;
  table.columns = std::move(collected.rows.front());
  for (std::size_t i = 1; i < collected.rows.size(); ++i) {
    std::vector<std::string>& row = collected.rows[i];
    if (row.size() > table.columns.size())
      return bad_input(
          fmt::format("{}: row {} has {} cells for {} columns", path.string(), i, row.size(), table.columns.size()));
    row.resize(table.columns.size());
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string format_table(const Table& table) {
  std::string text;
  const auto append = [&](const std::vector<std::string>& row) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text += ',';
      const std::string& cell = row[i];
      if (cell.find_first_of(",\"\n\r") == std::string::npos) {
        text += cell;
        continue;
      }
      std::string quoted(2 * cell.size() + 2, '\0');
      quoted.resize(csv_write(quoted.data(), quoted.size(), cell.data(), cell.size()));
      text += quoted;
    }
    text += '\n';
  };
  append(table.columns);
  for (const std::vector<std::string>& row : table.rows) append(row);
  return text;
}

}  // namespace memo::estimate
