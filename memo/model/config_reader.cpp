// Reads keys with their types, and words the failures.
#include "memo/model/config_reader.h"

#include <algorithm>
#include <cmath>

#include "memo/base/json.h"
#include "memo/base/python_json.h"

namespace memo::model {

void ConfigReader::fail(const std::string& what) {
  if (status_) status_ = bad_input(fmt::format("{}: {}", where_, what));
}

bool ConfigReader::is_null(const char* key) const {
  const auto found = config_.find(key);
  return found != config_.end() && found->is_null();
}

const nlohmann::json* ConfigReader::find(const char* key) const {
  const auto found = config_.find(key);
  return found == config_.end() || found->is_null() ? nullptr : &*found;
}

void ConfigReader::wrong_type(const char* key, const nlohmann::json& value, const char* expected) {
  fail(fmt::format("'{}' must be {}, found {}", key, expected, python_json_text(value, -1)));
}

void ConfigReader::read(const char* key, const nlohmann::json& value, std::int64_t& into) {
  if (!value.is_number_integer()) return wrong_type(key, value, "an integer");
  into = value.get<std::int64_t>();
}
void ConfigReader::read(const char* key, const nlohmann::json& value, double& into) {
  if (!value.is_number() || !std::isfinite(value.get<double>())) return wrong_type(key, value, "a finite number");
  into = value.get<double>();
}
void ConfigReader::read(const char* key, const nlohmann::json& value, bool& into) {
  if (!value.is_boolean()) return wrong_type(key, value, "true or false");
  into = value.get<bool>();
}
void ConfigReader::read(const char* key, const nlohmann::json& value, std::string& into) {
  if (!value.is_string()) return wrong_type(key, value, "a string");
  into = value.get<std::string>();
}

void ConfigReader::refuses(const char* key) {
  const auto* found = find(key);
  if (found == nullptr || *found == false || ((found->is_object() || found->is_array()) && found->empty())) return;
  fail(fmt::format("'{}' is not supported", key));
}

void ConfigReader::windowed_layers(Shape& shape) {
  bool use = false;
  std::int64_t window = 4096, full_layers = 28;  // what transformers takes when they are absent
  optional("use_sliding_window", use);
  optional("sliding_window", window);
  optional("max_window_layers", full_layers);
  use = use && !is_null("sliding_window");
  std::int64_t windowed = use ? std::clamp<std::int64_t>(shape.layers - full_layers, 0, shape.layers) : 0;
  if (const auto* types = find("layer_types")) {
    windowed = 0;
    if (!types->is_array() || std::ssize(*types) != shape.layers)
      return wrong_type("layer_types", *types, "a list with one for each layer");
    for (const auto& type : *types) {
      if (type != "full_attention" && (type != "sliding_attention" || !use))
        return fail(fmt::format("'layer_types' has {}, which is not supported", json_text(type)));
      windowed += type == "sliding_attention" ? 1 : 0;
    }
  }
  if (windowed > 0 && windowed < shape.layers)
    return fail(
        fmt::format("'use_sliding_window' is true for {} of {} layers, which is not supported, only none or all; where "
                    "no context is longer than 'sliding_window', set it to false and remove 'layer_types'",
                    windowed, shape.layers));
  if (windowed > 0) set_window(window, shape);
}

void ConfigReader::set_window(std::int64_t window, Shape& shape) {
  if (window < 1) return fail(fmt::format("'sliding_window' is {}; it must be at least 1", window));
  shape.sliding_window = window;
}

}  // namespace memo::model
