// Qwen2: Llama with biases on q, k and v. Keys and defaults: transformers' Qwen2Config.
#include "memo/model/families/families.h"

namespace memo::model {
namespace {

Result<Shape> read_qwen2(const nlohmann::json& config, const Path& where) {
  Shape shape = qwen2().defaults;
  ConfigReader reader(config, where);
  read_llama_keys(reader, shape);
  reader.required("num_key_value_heads", shape.kv_heads);  // absent is not "as many as heads" here, so it is asked for
  reader.windowed_layers(shape);
  MEMO_CHECKED(reader.status());
  return shape;
}

nlohmann::json write_qwen2(const Shape& shape) {
  nlohmann::json config = write_llama_keys(shape);
  write_windowed_layers(shape, config);
  return config;
}

Family qwen2_family() {
  Family f;
  f.name = "qwen2";
  f.architecture = "Qwen2ForCausalLM";
  f.base = "Qwen2Model";
  f.read = read_qwen2;
  f.write = write_qwen2;
  f.defaults.family = f.name;
  f.defaults.max_positions = 32768;
  f.defaults.norm_eps = 1e-6;
  f.defaults.qkv_bias = true;
  f.tensors = llama_tensors();
  return f;
}

}  // namespace

const Family& qwen2() {
  static const Family f = qwen2_family();
  return f;
}

}  // namespace memo::model
