// Reads the keys of a config.json, remembers the first thing that is wrong, and refuses features by name.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "memo/base/json.h"
#include "memo/model/shape.h"

namespace memo::model {

// After the first failure every read is skipped; `status()` returns the failure. A key with the value null counts as
// absent.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& config, const Path& where) : config_(config), where_(where.string()) {}

  // Leaves `value` as it is when the key is absent.
  template <class T>
  void optional(const char* key, T& value) {
    if (const auto* found = find(key)) read(key, *found, value);
  }
  template <class T>
  void required(const char* key, T& value) {
    if (const auto* found = find(key)) return read(key, *found, value);
    fail(fmt::format("'{}' is missing", key));
  }
  // Reads a key with two names, which must have the same value where both are given.
  template <class T>
  void required_as(const char* key, const char* alias, T& value) {
    const auto *found = find(key), *other = find(alias);
    if (found != nullptr && other != nullptr && *found != *other)
      return fail(fmt::format("'{}' is {}, but '{}' is {}: two names of one thing; remove one", key, found->dump(),
                              alias, other->dump()));
    required(found == nullptr && other != nullptr ? alias : key, value);
  }
  // Accepts only `supported`; `absent` is the value that the family's class in transformers assumes without the key.
  template <class T>
  void supports_only(const char* key, T supported, T absent) {
    T value = absent;
    optional(key, value);
    if (value == supported) return;
    const nlohmann::json is = value, must = supported;
    fail(fmt::format("'{}' is {}{}, which is not supported; only {} is", key, json_text(is),
                     find(key) == nullptr ? " when it is absent" : "", json_text(must)));
  }
  void no_dropout(const char* key, double absent) {
    double value = absent;
    optional(key, value);
    if (value == 0) return;
    fail(fmt::format("'{}' is {}{}, but dropout is not supported; set it to 0.0 in config.json", key, value,
                     find(key) == nullptr ? " when it is absent" : ""));
  }
  // Refuses any value but null, false or empty.
  void refuses(const char* key);
  // Reads Qwen's use_sliding_window, max_window_layers and layer_types: either no layer has a window, or all have it.
  void windowed_layers(Shape& shape);
  void set_window(std::int64_t window, Shape& shape);

  [[nodiscard]] const nlohmann::json* find(const char* key) const;  // null: none, or its value is null
  [[nodiscard]] bool is_null(const char* key) const;                // there, and null
  void wrong_type(const char* key, const nlohmann::json& value, const char* expected);
  void fail(const std::string& what);
  // The failure, if any, of a reader for a part of the document.
  void adopt(const ConfigReader& part) {
    if (status_) status_ = part.status_;
  }
  [[nodiscard]] Status status() const { return status_; }
  [[nodiscard]] const std::string& where() const { return where_; }

 private:
  void read(const char* key, const nlohmann::json& value, std::int64_t& into);
  void read(const char* key, const nlohmann::json& value, double& into);
  void read(const char* key, const nlohmann::json& value, bool& into);
  void read(const char* key, const nlohmann::json& value, std::string& into);

  const nlohmann::json& config_;
  std::string where_;
  Status status_;
};

}  // namespace memo::model
