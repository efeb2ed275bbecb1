// Walks a JSON document up to its first mistake. Accessors check presence, type and range; they note the first failure
// in words that name the place ("flow.classes[3].row_bytes"), and return zero from then on. So readers need no
// branches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "memo/base/units.h"

namespace memo::plan {

class JsonCursor {
 public:
  // `failure` stays empty until the first mistake. `failure` and `value` must outlive the cursor.
  JsonCursor(const nlohmann::json& value, std::string place, std::string& failure)
      : value_(&value), place_(std::move(place)), failure_(&failure) {}

  [[nodiscard]] bool failed() const { return !failure_->empty(); }
  void fail(const std::string& what) const;

  [[nodiscard]] JsonCursor at(const char* key) const;  // a key that must be there
  [[nodiscard]] JsonCursor at(std::size_t index) const;
  [[nodiscard]] bool has(const char* key) const;
  [[nodiscard]] std::size_t size() const;  // of an array; 0 after a failure
  // Refuses keys that are not among `keys`: a misspelt key must not be taken for an absent one.
  void only(std::initializer_list<std::string_view> keys) const;

  [[nodiscard]] std::int64_t integer(std::int64_t low, std::int64_t high) const;
  [[nodiscard]] int integer() const;  // any int
  [[nodiscard]] Bytes bytes() const;  // any int64
  [[nodiscard]] double number() const;
  [[nodiscard]] std::string text() const;
  [[nodiscard]] bool flag() const;
  [[nodiscard]] const nlohmann::json& value() const { return *value_; }

 private:
  const nlohmann::json* value_;
  std::string place_;
  std::string* failure_;
};

// The integer in `value`, if it lies in [low, high]; false for anything else (a fraction, a string, out of range).
bool to_integer(const nlohmann::json& value, std::int64_t low, std::int64_t high, std::int64_t& out);

}  // namespace memo::plan
