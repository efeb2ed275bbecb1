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
#include "memo/job/job.h"
#include "memo/model/rope.h"

namespace memo::model {

enum class Norm { rms, layer };
enum class Activation { silu, gelu_tanh };  // silu: gated (SwiGLU); gelu_tanh: GPT-2's "gelu_new", not gated
enum class Position { rope, learned };

struct Shape {
  std::string family;  // "gpt2", "llama", "mistral", "qwen2", "qwen3"
  std::int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0;
  std::int64_t max_positions = 0;  // rows of the learned position table; a limit only when positions are learned
  Norm norm = Norm::rms;
  double norm_eps = 1e-5;
  Activation activation = Activation::silu;
  Position position = Position::rope;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  std::int64_t sliding_window = 0;  // tokens that attention sees, a query's own included; 0: all
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  bool qk_norm = false;  // RMS norm of each head's query and key (Qwen3)
  bool tied = false;     // LM head shares the embedding
  double init_std = 0.02;
  bool operator==(const Shape&) const = default;
};

// Names of one of Memo's parameters (memo/model/parameters.h) in a checkpoint: one tensor, or one for each of its
// pieces (q, k, v of qkv; gate, up of mlp_in). "{}" stands for the layer.
struct TensorNames {
  std::string parameter;
  std::vector<std::string> tensors;
};

// A family: it reads its keys of config.json, writes them back, and names its tensors. Each has a file in
// memo/model/families.
struct Family {
  std::string name;          // "model_type" of config.json
  std::string architecture;  // of "architectures": the class that is trained
  std::string base;          // and the one that it puts a head on, whose weights are read too
  Shape defaults;            // what config.json's absent keys, or a shape given by sizes alone, mean
  Result<Shape> (*read)(const nlohmann::json& config, const Path& where) = nullptr;
  nlohmann::json (*write)(const Shape& shape) = nullptr;
  // Checks the family's demands beyond check_shape.
  Status (*check)(const Shape& shape, const std::string& where) = nullptr;
  std::vector<TensorNames> tensors;
  bool linear_transposed = false;  // matrices of the layers are stored [in, out]
};
const std::vector<const Family*>& families();
Result<const Family*> find_family(const std::string& name, const std::string& where);

// Reads config.json of a Hugging Face folder. A key that changes the mathematics and is not supported is refused by
// name.
Result<Shape> read_config(const Path& folder);
// The text of a config.json for `shape`. Keys beyond a shape, such as a tokenizer's token ids, are copied from `like`,
// the model's original config.json, if given.
Result<std::string> config_text(const Shape& shape, job::DType dtype, const std::optional<Path>& like = {});

// The job's model, from its folder's config.json or its sizes; checked, also against the job's context.
Result<Shape> job_shape(const job::Job& job);

// One line about sizes that contradict each other (heads that do not divide, odd head_dim for rotary positions ...).
Status check_shape(const Shape& shape, const std::string& where);
// The shape for sequences of `context` tokens, on which dynamic rotary frequencies depend. Refuses a context beyond the
// learned positions.
Result<Shape> for_context(Shape shape, Tokens context, const std::string& where);

std::int64_t parameter_count(const Shape& shape);
// FLOPs of the model for one sequence, forward and backward, without recomputation: 6 for each token and each weight of
// a product (in layers and head), and 12 S^2 for each layer and query column. `causal`: counts only the half of the
// latter that a causal mask leaves. (Narayanan et al., SC 2021, without their recomputation.)
double model_flops(const Shape& shape, Tokens context, bool causal);

}  // namespace memo::model
