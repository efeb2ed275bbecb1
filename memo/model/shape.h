// The shape of a decoder-only transformer, read from a Hugging Face config.json or from the job. No tensors.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"

namespace memo::model {

enum class Norm { rms, layer };
enum class Activation { silu, gelu_tanh };  // silu: gated (SwiGLU); gelu_tanh: GPT-2's "gelu_new", not gated
enum class Position { rope, learned };

// Llama 3's rescaling of rotary frequencies ("rope_type": "llama3").
struct RopeScaling {
  double factor = 8, low_freq_factor = 1, high_freq_factor = 4;
  std::int64_t original_context = 8192;
};

struct Shape {
  std::string family;  // "gpt2", "llama", "mistral", "qwen2", "qwen3"
  std::int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0;
  std::int64_t max_positions = 0;  // rows of the learned position table; a limit only when positions are learned
  Norm norm = Norm::rms;
  double norm_eps = 1e-5;
  Activation activation = Activation::silu;
  Position position = Position::rope;
  double rope_theta = 10000;
  std::optional<RopeScaling> rope_scaling;
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  bool qk_norm = false;  // RMS norm of each head's query and key (Qwen3)
  bool tied = false;     // LM head shares the embedding
  double init_std = 0.02;
};

// One file of memo/model/families per family: reads its config.json keys, writes them back, names its tensors.
struct Family {
  std::string name;  // "model_type" of config.json
  Result<Shape> (*read)(const nlohmann::json& config, const Path& where);
  nlohmann::json (*write)(const Shape& shape);
  // Shape given in job.toml by sizes alone, the family's defaults for the rest.
  Shape (*defaults)();
};
const std::vector<const Family*>& families();
Result<const Family*> find_family(const std::string& name, const std::string& where);

// config.json of a Hugging Face folder. A key that changes the mathematics and is not supported is refused by name.
Result<Shape> read_config(const Path& folder);
// Sizes that contradict each other (heads that do not divide, odd head_dim for rotary ...) in one line.
Status check_shape(const Shape& shape, const std::string& where);

std::int64_t parameter_count(const Shape& shape);

}  // namespace memo::model
