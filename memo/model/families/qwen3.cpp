// Qwen3: Llama with RMS norms on each head's query and key. Keys and defaults: transformers' Qwen3Config.
#include "memo/model/families/families.h"

namespace memo::model {
namespace {

Result<Shape> read_qwen3(const nlohmann::json& config, const Path& where) {
  Shape shape = qwen3().defaults;
  ConfigReader reader(config, where);
  read_llama_keys(reader, shape);
  reader.required("num_key_value_heads", shape.kv_heads);  // absent is not "as many as heads" here, so it is asked for
  reader.optional("attention_bias", shape.qkv_bias);
  shape.out_bias = shape.qkv_bias;
  reader.windowed_layers(shape);
  MEMO_CHECKED(reader.status());
  return shape;
}

nlohmann::json write_qwen3(const Shape& shape) {
  nlohmann::json config = write_llama_keys(shape);
  config["attention_bias"] = shape.qkv_bias;
  write_windowed_layers(shape, config);
  return config;
}

Family qwen3_family() {
  Family f;
  f.name = "qwen3";
  f.architecture = "Qwen3ForCausalLM";
  f.base = "Qwen3Model";
  f.read = read_qwen3;
  f.write = write_qwen3;
  f.defaults.family = f.name;
  f.defaults.head_dim = 128;
  f.defaults.max_positions = 32768;
  f.defaults.norm_eps = 1e-6;
  f.defaults.qk_norm = true;
  f.tensors = llama_tensors();
  return f;
}

}  // namespace

const Family& qwen3() {
  static const Family f = qwen3_family();
  return f;
}

}  // namespace memo::model
