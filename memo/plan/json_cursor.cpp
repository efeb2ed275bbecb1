// Checks of presence, type and range, and the words for a failure.
#include "memo/plan/json_cursor.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "memo/base/json.h"

namespace memo::plan {
namespace {
const nlohmann::json& nothing() {
  static const nlohmann::json null;
  return null;
}
}  // namespace

bool to_integer(const nlohmann::json& value, std::int64_t low, std::int64_t high, std::int64_t& out) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() &&
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return false;
  out = value.get<std::int64_t>();
  return out >= low && out <= high;
}

void JsonCursor::fail(const std::string& what) const {
  if (!failed()) *failure_ = place_.empty() ? what : fmt::format("{}: {}", place_, what);
}

JsonCursor JsonCursor::at(const char* key) const {
  const std::string place = place_.empty() ? key : place_ + "." + key;
  if (!failed() && !value_->is_object()) fail(fmt::format("expected an object, found {}", value_->type_name()));
  if (!failed() && !value_->contains(key)) fail(fmt::format("'{}' is missing", key));
  return {failed() ? nothing() : *value_->find(key), place, *failure_};
}

JsonCursor JsonCursor::at(std::size_t index) const {
  const bool there = !failed() && value_->is_array() && index < value_->size();
  return {there ? (*value_)[index] : nothing(), fmt::format("{}[{}]", place_, index), *failure_};
}

bool JsonCursor::has(const char* key) const { return !failed() && value_->is_object() && value_->contains(key); }

std::size_t JsonCursor::size() const {
  if (!failed() && !value_->is_array()) fail(fmt::format("expected an array, found {}", value_->type_name()));
  return failed() ? 0 : value_->size();
}

void JsonCursor::only(std::initializer_list<std::string_view> keys) const {
  if (!failed() && !value_->is_object()) fail(fmt::format("expected an object, found {}", value_->type_name()));
  if (failed()) return;
  for (const auto& [key, unused] : value_->items())
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      fail(fmt::format("unknown key {}", ascii_json_text(nlohmann::json(key))));
}

std::int64_t JsonCursor::integer(std::int64_t low, std::int64_t high) const {
  std::int64_t number = 0;
  if (!failed() && !to_integer(*value_, low, high, number))
    fail(fmt::format("expected an integer from {} to {}", low, high));
  return failed() ? 0 : number;
}

int JsonCursor::integer() const {
  return static_cast<int>(integer(std::numeric_limits<int>::min(), std::numeric_limits<int>::max()));
}

Bytes JsonCursor::bytes() const {
  return Bytes(integer(std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()));
}

double JsonCursor::number() const {
  if (!failed() && !value_->is_number()) fail(fmt::format("expected a number, found {}", value_->type_name()));
  return failed() ? 0 : value_->get<double>();
}

std::string JsonCursor::text() const {
  if (!failed() && !value_->is_string()) fail(fmt::format("expected a string, found {}", value_->type_name()));
  return failed() ? std::string() : value_->get<std::string>();
}

bool JsonCursor::flag() const {
  if (!failed() && !value_->is_boolean()) fail(fmt::format("expected true or false, found {}", value_->type_name()));
  return !failed() && value_->get<bool>();
}

}  // namespace memo::plan
