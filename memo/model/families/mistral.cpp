// Mistral: Llama without biases, with a sliding window. Keys and defaults: transformers' MistralConfig.
#include "memo/model/families/families.h"

namespace memo::model {
namespace {

Result<Shape> read_mistral(const nlohmann::json& config, const Path& where) {
  Shape shape = mistral().defaults;
  ConfigReader reader(config, where);
  read_llama_keys(reader, shape);
  reader.required("num_key_value_heads", shape.kv_heads);  // absent is not "as many as heads" here, so it is asked for
  // The class takes 4096 when the key is absent, and no window when it is null.
  std::int64_t window = 4096;
  reader.optional("sliding_window", window);
  if (!reader.is_null("sliding_window")) reader.set_window(window, shape);
  reader.refuses("layer_types");
  MEMO_CHECKED(reader.status());
  return shape;
}

nlohmann::json write_mistral(const Shape& shape) {
  nlohmann::json config = write_llama_keys(shape);
  config["sliding_window"] = shape.sliding_window > 0 ? nlohmann::json(shape.sliding_window) : nlohmann::json();
  return config;
}

Family mistral_family() {
  Family f;
  f.name = "mistral";
  f.architecture = "MistralForCausalLM";
  f.base = "MistralModel";
  f.read = read_mistral;
  f.write = write_mistral;
  f.defaults.family = f.name;
  f.defaults.max_positions = 131072;
  f.defaults.norm_eps = 1e-6;
  f.tensors = llama_tensors();
  return f;
}

}  // namespace

const Family& mistral() {
  static const Family f = mistral_family();
  return f;
}

}  // namespace memo::model
