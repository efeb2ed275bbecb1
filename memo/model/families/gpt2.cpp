// GPT-2: learned positions, layer norm, biases everywhere, one fused q|k|v tensor, Conv1D matrices stored [in, out].
// Keys and defaults: transformers' GPT2Config.
#include "memo/model/families/families.h"

namespace memo::model {
namespace {

Result<Shape> read_gpt2(const nlohmann::json& config, const Path& where) {
  Shape shape = gpt2().defaults;
  ConfigReader reader(config, where);
  reader.required_as("n_embd", "hidden_size", shape.hidden);
  reader.required_as("n_layer", "num_hidden_layers", shape.layers);
  reader.required_as("n_head", "num_attention_heads", shape.heads);
  reader.required("vocab_size", shape.vocab);
  reader.required_as("n_positions", "max_position_embeddings", shape.max_positions);
  shape.kv_heads = shape.heads;
  shape.head_dim = shape.heads > 0 ? shape.hidden / shape.heads : 0;
  shape.ffn = 4 * shape.hidden;
  reader.optional("n_inner", shape.ffn);
  reader.optional("layer_norm_epsilon", shape.norm_eps);
  reader.optional("initializer_range", shape.init_std);
  reader.optional("tie_word_embeddings", shape.tied);
  reader.supports_only<std::string>("activation_function", "gelu_new", "gelu_new");
  reader.supports_only("scale_attn_weights", true, true);
  reader.refuses("scale_attn_by_inverse_layer_idx");
  reader.refuses("reorder_and_upcast_attn");
  reader.refuses("add_cross_attention");
  for (const char* dropout : {"embd_pdrop", "resid_pdrop", "attn_pdrop"}) reader.no_dropout(dropout, 0.1);
  MEMO_CHECKED(reader.status());
  return shape;
}

nlohmann::json write_gpt2(const Shape& shape) {
  return {{"n_embd", shape.hidden},
          {"n_layer", shape.layers},
          {"n_head", shape.heads},
          {"vocab_size", shape.vocab},
          {"n_positions", shape.max_positions},
          {"n_inner", shape.ffn},
          {"layer_norm_epsilon", shape.norm_eps},
          {"initializer_range", shape.init_std},
          {"tie_word_embeddings", shape.tied},
          {"activation_function", "gelu_new"},
          {"embd_pdrop", 0.0},
          {"resid_pdrop", 0.0},
          {"attn_pdrop", 0.0}};
}

Status check_gpt2(const Shape& shape, const std::string& where) {
  if (shape.heads * shape.head_dim != shape.hidden)
    return bad_input(fmt::format("{}: {} heads of {} must make the hidden size {}", where, shape.heads, shape.head_dim,
                                 shape.hidden));
  if (shape.kv_heads != shape.heads)
    return bad_input(
        fmt::format("{}: gpt2 has as many key heads as heads, found {} and {}", where, shape.kv_heads, shape.heads));
  return {};
}

Family gpt2_family() {
  Family f;
  f.name = "gpt2";
  f.architecture = "GPT2LMHeadModel";
  f.base = "GPT2Model";
  f.read = read_gpt2;
  f.write = write_gpt2;
  f.check = check_gpt2;
  f.linear_transposed = true;
  f.defaults.family = f.name;
  f.defaults.max_positions = 1024;
  f.defaults.norm = Norm::layer;
  f.defaults.activation = Activation::gelu_tanh;
  f.defaults.position = Position::learned;
  f.defaults.qkv_bias = f.defaults.out_bias = f.defaults.mlp_bias = true;
  f.defaults.tied = true;
  const std::string layer = "transformer.h.{}.";
  f.tensors = {{"embedding", {"transformer.wte.weight"}},
               {"positions", {"transformer.wpe.weight"}},
               {"attn_norm", {layer + "ln_1.weight"}},
               {"attn_norm.bias", {layer + "ln_1.bias"}},
               {"qkv", {layer + "attn.c_attn.weight"}},
               {"qkv.bias", {layer + "attn.c_attn.bias"}},
               {"out", {layer + "attn.c_proj.weight"}},
               {"out.bias", {layer + "attn.c_proj.bias"}},
               {"mlp_norm", {layer + "ln_2.weight"}},
               {"mlp_norm.bias", {layer + "ln_2.bias"}},
               {"mlp_in", {layer + "mlp.c_fc.weight"}},
               {"mlp_in.bias", {layer + "mlp.c_fc.bias"}},
               {"mlp_out", {layer + "mlp.c_proj.weight"}},
               {"mlp_out.bias", {layer + "mlp.c_proj.bias"}},
               {"final_norm", {"transformer.ln_f.weight"}},
               {"final_norm.bias", {"transformer.ln_f.bias"}},
               {"head", {"lm_head.weight"}}};
  return f;
}

}  // namespace

const Family& gpt2() {
  static const Family f = gpt2_family();
  return f;
}

}  // namespace memo::model
