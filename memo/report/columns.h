// Packs large integer columns into a few bytes of text: differences of neighbours, zigzag, base-128 varints, deflate
// (zlib), base64. page/columns.js reads them. A plan's columns are so regular that 10^5 rows take some tens of
// kilobytes.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace memo::report {

class Columns {
 public:
  // Every value is an exact double (below 2^53), since the page counts in doubles.
  void add(const std::string& name, const std::vector<std::int64_t>& values);
  // {"columns": [[name, rows], ...], "data": base64}
  [[nodiscard]] nlohmann::ordered_json json() const;

 private:
  nlohmann::ordered_json names_ = nlohmann::ordered_json::array();
  std::string bytes_;
};

std::string base64(std::string_view bytes);

}  // namespace memo::report
