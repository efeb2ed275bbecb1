// Llama, and the common part of the families that followed it. Keys and defaults: transformers' LlamaConfig.
#include "memo/model/families/families.h"

namespace memo::model {

std::vector<TensorNames> llama_tensors() {
  const std::string layer = "model.layers.{}.";
  const auto attention = [&](const char* suffix) -> std::vector<std::string> {
    return {layer + "self_attn.q_proj." + suffix, layer + "self_attn.k_proj." + suffix,
            layer + "self_attn.v_proj." + suffix};
  };
  const auto gated = [&](const char* suffix) -> std::vector<std::string> {
    return {layer + "mlp.gate_proj." + suffix, layer + "mlp.up_proj." + suffix};
  };
  return {{"embedding", {"model.embed_tokens.weight"}},
          {"attn_norm", {layer + "input_layernorm.weight"}},
          {"qkv", attention("weight")},
          {"qkv.bias", attention("bias")},
          {"q_norm", {layer + "self_attn.q_norm.weight"}},
          {"k_norm", {layer + "self_attn.k_norm.weight"}},
          {"out", {layer + "self_attn.o_proj.weight"}},
          {"out.bias", {layer + "self_attn.o_proj.bias"}},
          {"mlp_norm", {layer + "post_attention_layernorm.weight"}},
          {"mlp_in", gated("weight")},
          {"mlp_in.bias", gated("bias")},
          {"mlp_out", {layer + "mlp.down_proj.weight"}},
          {"mlp_out.bias", {layer + "mlp.down_proj.bias"}},
          {"final_norm", {"model.norm.weight"}},
          {"head", {"lm_head.weight"}}};
}

void read_llama_keys(ConfigReader& reader, Shape& shape) {
  reader.required("hidden_size", shape.hidden);
  reader.required("intermediate_size", shape.ffn);
  reader.required("num_hidden_layers", shape.layers);
  reader.required("num_attention_heads", shape.heads);
  reader.required("vocab_size", shape.vocab);
  shape.kv_heads = shape.heads;
  reader.optional("num_key_value_heads", shape.kv_heads);
  if (shape.head_dim == 0 && shape.heads > 0) shape.head_dim = shape.hidden / shape.heads;
  reader.optional("head_dim", shape.head_dim);
  reader.optional("max_position_embeddings", shape.max_positions);
  reader.optional("rms_norm_eps", shape.norm_eps);
  reader.optional("initializer_range", shape.init_std);
  reader.optional("tie_word_embeddings", shape.tied);
  read_rope(reader, shape);
  reader.supports_only<std::string>("hidden_act", "silu", "silu");
  reader.no_dropout("attention_dropout", 0.0);
}

nlohmann::json write_llama_keys(const Shape& shape) {
  return {{"hidden_size", shape.hidden},
          {"intermediate_size", shape.ffn},
          {"num_hidden_layers", shape.layers},
          {"num_attention_heads", shape.heads},
          {"num_key_value_heads", shape.kv_heads},
          {"head_dim", shape.head_dim},
          {"vocab_size", shape.vocab},
          {"max_position_embeddings", shape.max_positions},
          {"rms_norm_eps", shape.norm_eps},
          {"initializer_range", shape.init_std},
          {"tie_word_embeddings", shape.tied},
          {"rope_parameters", rope_parameters(shape)},
          {"hidden_act", "silu"},
          {"attention_dropout", 0.0}};
}

void write_windowed_layers(const Shape& shape, nlohmann::json& config) {
  const bool windowed = shape.sliding_window > 0;
  config["use_sliding_window"] = windowed;
  if (!windowed) return;
  config["sliding_window"] = shape.sliding_window;
  config["max_window_layers"] = 0;
  config["layer_types"] = std::vector<std::string>(static_cast<std::size_t>(shape.layers), "sliding_attention");
}

namespace {

Result<Shape> read_llama(const nlohmann::json& config, const Path& where) {
  Shape shape = llama().defaults;
  ConfigReader reader(config, where);
  read_llama_keys(reader, shape);
  reader.optional("attention_bias", shape.qkv_bias);
  shape.out_bias = shape.qkv_bias;
  reader.optional("mlp_bias", shape.mlp_bias);
  reader.supports_only<std::int64_t>("pretraining_tp", 1, 1);
  MEMO_CHECKED(reader.status());
  return shape;
}

nlohmann::json write_llama(const Shape& shape) {
  nlohmann::json config = write_llama_keys(shape);
  config["attention_bias"] = shape.qkv_bias;
  config["mlp_bias"] = shape.mlp_bias;
  return config;
}

// transformers demands that heads divide the hidden size, even where head_dim is given.
Status check_llama(const Shape& shape, const std::string& where) {
  if (shape.hidden % shape.heads == 0) return {};
  return bad_input(
      fmt::format("{}: hidden size {} must be a multiple of the {} heads", where, shape.hidden, shape.heads));
}

Family llama_family() {
  Family f;
  f.name = "llama";
  f.architecture = "LlamaForCausalLM";
  f.base = "LlamaModel";
  f.read = read_llama;
  f.write = write_llama;
  f.check = check_llama;
  f.defaults.family = f.name;
  f.defaults.max_positions = 2048;
  f.defaults.norm_eps = 1e-6;
  f.tensors = llama_tensors();
  return f;
}

}  // namespace

const Family& llama() {
  static const Family f = llama_family();
  return f;
}

}  // namespace memo::model
