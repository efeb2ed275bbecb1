// Large arrays as tables: {"columns": ["tensor", "begin", ...], "rows": [[0, 1, ...], ...]}, integers only. A row type
// lists its columns once, by an overload of
//   template <Row<Type> T, class Field> void each_column(T& row, Field&& field)   // calls field(name, member)
// which serves writing and reading. Members are int, an Index, Bytes or an enum that counts from 0 (checked elsewhere).
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "memo/base/index.h"
#include "memo/base/json.h"
#include "memo/plan/json_cursor.h"

namespace memo::plan {

template <class T, class Type>
concept Row = std::same_as<std::remove_const_t<T>, Type>;

inline std::int64_t cell(Bytes member) { return member.value(); }
template <class Tag>
std::int64_t cell(Index<Tag> member) {
  return member.value();
}
template <class T>
std::int64_t cell(T member) {
  return static_cast<std::int64_t>(member);
}

inline bool from_cell(const nlohmann::json& value, Bytes& member) {
  std::int64_t number = 0;
  using Limits = std::numeric_limits<std::int64_t>;
  if (!to_integer(value, Limits::min(), Limits::max(), number)) return false;
  member = Bytes(number);
  return true;
}
template <class T>
bool from_cell(const nlohmann::json& value, T& member) {
  std::int64_t number = 0;
  using Limits = std::numeric_limits<int>;
  constexpr bool any = std::is_same_v<T, int>;
  constexpr int most = std::is_same_v<T, bool> ? 1 : 7;  // of an enumeration, whose own check follows
  if (!to_integer(value, any ? Limits::min() : 0, any ? Limits::max() : most, number)) return false;
  member = static_cast<T>(number);
  return true;
}

template <class Tag>
bool from_cell(const nlohmann::json& value, Index<Tag>& member) {
  int number = 0;
  if (!from_cell(value, number)) return false;
  member = Index<Tag>(number);
  return true;
}

template <class T>
std::string columns_of() {
  std::string names;
  const T row{};
  each_column(row, [&](const char* name, const auto&) { names += fmt::format(",\"{}\"", name); });
  names.front() = '[';
  return names + ']';
}

template <class T>
void write_table(std::string& out, const std::vector<T>& rows) {
  out += fmt::format("{{\"columns\":{},\"rows\":[", columns_of<T>());
  const char* separator = "\n";
  for (const T& row : rows) {
    out += separator;
    char open = '[';
    each_column(row, [&](const char*, const auto& member) {
      out += open;
      const fmt::format_int digits(cell(member));
      out.append(digits.data(), digits.size());
      open = ',';
    });
    out += ']';
    separator = ",\n";
  }
  out += "]}";
}

template <class T>
std::vector<T> read_table(const JsonCursor& table) {
  table.only({"columns", "rows"});
  const JsonCursor columns = table.at("columns"), list = table.at("rows");
  if (!table.failed() && columns.value() != json_of(columns_of<T>())) columns.fail("expected " + columns_of<T>());
  std::vector<T> rows(list.size());
  for (std::size_t i = 0; i < rows.size() && !table.failed(); ++i) {
    const nlohmann::json& cells = list.value()[i];
    std::size_t column = 0;
    bool good = cells.is_array() && cells.size() == columns.value().size();
    if (good)
      each_column(rows[i], [&](const char*, auto& member) { good = good && from_cell(cells[column++], member); });
    if (!good) list.at(i).fail("expected integers in range for " + columns_of<T>());
  }
  return rows;
}

}  // namespace memo::plan
