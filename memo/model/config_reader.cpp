#include "memo/model/config_reader.h"

#include <algorithm>
#include <cmath>

namespace memo::model {

void ConfigReader::fail(const std::string& what) {
  if (status_) status_ = bad_input(fmt::format("{}: {}", where_, what));
}

const nlohmann::json* ConfigReader::find(const char* key) const {
  const auto found = config_.find(key);
  return found == config_.end() || found->is_null() ? nullptr : &*found;
}

void ConfigReader::wrong_type(const char* key, const nlohmann::json& value, const char* expected) {
  fail(fmt::format("'{}' must be {}, found {}", key, expected, value.dump()));
}

void ConfigReader::read(const char* key, const nlohmann::json& value, std::int64_t& into) {
  if (!value.is_number_integer()) return wrong_type(key, value, "an integer");
  into = value.get<std::int64_t>();
}
void ConfigReader::read(const char* key, const nlohmann::json& value, double& into) {
  if (!value.is_number()) return wrong_type(key, value, "a number");
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

void ConfigReader::full_attention_only() {
  bool windowed = false;
  optional("use_sliding_window", windowed);
  if (windowed)
    fail(
        "'use_sliding_window' is true, which is not supported; where no context is longer than 'sliding_window', "
        "set it to false");
  if (const auto* types = find("layer_types"))
    for (const auto& type : *types)
      if (type != "full_attention") fail(fmt::format("'layer_types' has {}, which is not supported", type.dump()));
}

// Precedence as in transformers' RotaryEmbeddingConfigMixin (5.23): a rope_scaling that is not empty replaces
// rope_parameters; rope_theta inside it wins over the one beside it; "type" is the old name of "rope_type".
void ConfigReader::rope(Shape& shape) {
  supports_only("partial_rotary_factor", 1.0, 1.0);
  optional("rope_theta", shape.rope_theta);
  const auto* table = find("rope_scaling");
  const char* name = "rope_scaling";
  if (table == nullptr || table->empty()) table = find(name = "rope_parameters");
  if (table == nullptr) return;
  if (!table->is_object()) return wrong_type(name, *table, "an object");

  for (const auto& [key, value] : table->items()) {
    static const std::vector<std::string> known{"rope_theta",
                                                "rope_type",
                                                "type",
                                                "factor",
                                                "low_freq_factor",
                                                "high_freq_factor",
                                                "original_max_position_embeddings",
                                                "partial_rotary_factor"};
    if (std::find(known.begin(), known.end(), key) == known.end() && !value.is_null())
      return fail(fmt::format("'{}.{}' is not supported", name, key));
  }
  ConfigReader inner(*table, fmt::format("{}: in '{}'", where_, name));
  inner.supports_only("partial_rotary_factor", 1.0, 1.0);
  inner.optional("rope_theta", shape.rope_theta);
  std::string type = "default";
  inner.optional("type", type);
  inner.optional("rope_type", type);
  if (type == "llama3") {
    RopeScaling scaling;
    inner.required("factor", scaling.factor);
    inner.required("low_freq_factor", scaling.low_freq_factor);
    inner.required("high_freq_factor", scaling.high_freq_factor);
    scaling.original_context = shape.max_positions;
    inner.optional("original_max_position_embeddings", scaling.original_context);
    if (!(scaling.factor >= 1 && scaling.low_freq_factor > 0 && scaling.high_freq_factor > scaling.low_freq_factor &&
          scaling.original_context > 0))
      inner.fail("factors must satisfy 1 <= factor and 0 < low_freq_factor < high_freq_factor");
    shape.rope_scaling = scaling;
  } else if (type != "default") {
    inner.fail(fmt::format("'rope_type' is \"{}\", which is not supported; only \"default\" and \"llama3\" are", type));
  }
  if (!(shape.rope_theta > 0 && std::isfinite(shape.rope_theta))) inner.fail("'rope_theta' must be above 0");
  if (!inner.status() && status_) status_ = inner.status();
}

nlohmann::json rope_parameters(const Shape& shape) {
  nlohmann::json rope{{"rope_type", "default"}, {"rope_theta", shape.rope_theta}};
  if (const auto& scaling = shape.rope_scaling) {
    rope["rope_type"] = "llama3";
    rope["factor"] = scaling->factor;
    rope["low_freq_factor"] = scaling->low_freq_factor;
    rope["high_freq_factor"] = scaling->high_freq_factor;
    rope["original_max_position_embeddings"] = scaling->original_context;
  }
  return rope;
}

}  // namespace memo::model
