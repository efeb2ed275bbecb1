// Rotary positions: their kinds, as config.json names them, and a model's frequencies. No tensors.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <variant>
#include <vector>

namespace memo::model {

struct Shape;
class ConfigReader;

struct LinearRope {  // positions are divided by `factor`
  double factor = 1;
  bool operator==(const LinearRope&) const = default;
};

struct DynamicRope {  // NTK: the longer the sequence beyond the model's positions, the larger theta
  double factor = 1;
  std::int64_t context = 0;  // tokens of the sequences that are computed (shape.h: for_context); 0: no more than those
  bool operator==(const DynamicRope&) const = default;
};

// Frequencies that turn more than `beta_fast` times within the original context stay, frequencies that turn less than
// `beta_slow` times are divided by `factor`, frequencies between are blended; queries and keys grow by
// `attention_factor`.
struct YarnRope {
  double factor = 1, attention_factor = 1, beta_fast = 32, beta_slow = 1;
  std::int64_t original_context = 0;
  bool truncate = true;  // the range between is widened to whole dimensions
  bool operator==(const YarnRope&) const = default;
};

// Llama 3: frequencies of long wavelengths are divided by `factor`, those of short wavelengths stay, those between are
// blended.
struct Llama3Rope {
  double factor = 8, low_freq_factor = 1, high_freq_factor = 4;
  std::int64_t original_context = 8192;
  bool operator==(const Llama3Rope&) const = default;
};

using RopeScaling = std::variant<std::monostate, LinearRope, DynamicRope, YarnRope, Llama3Rope>;

// Reads rope_parameters of a config.json, or the older rope_theta and rope_scaling; and partial_rotary_factor.
void read_rope(ConfigReader& reader, Shape& shape);
// Writes rope_parameters as transformers does.
nlohmann::json rope_parameters(const Shape& shape);

struct Rotation {
  std::vector<float> frequencies;  // [D / 2], angles a token; empty: no rotation
  float scale = 1;                 // of cosine and sine
};
Rotation rotation(const Shape& shape);

}  // namespace memo::model
