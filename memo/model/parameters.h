// The parameters of a decoder: Memo's fused layout, and the place of each part in a Hugging Face checkpoint. No
// tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memo/base/units.h"
#include "memo/model/dataflow.h"
#include "memo/model/shape.h"

namespace memo::model {

// Rows [row, row + rows) of a parameter come from the checkpoint's tensor `name`, which is transposed when it is stored
// as [in, out] (GPT-2's Conv1D); `source_row` is the first row taken from that tensor after transposition (GPT-2's
// c_attn is whole; Llama's q_proj, k_proj, v_proj are three parts of qkv).
struct ParameterPart {
  std::string name;
  std::int64_t row = 0, rows = 0, source_row = 0;
  bool transposed = false;
};

enum class Init { normal, residual_normal, zero, one };  // residual_normal: init_std / sqrt(2 layers)

struct ParameterSpec {
  std::string name;  // "embedding", "positions", "layers.3.qkv", "layers.3.qkv.bias", "final_norm", "head" ...
  std::vector<std::int64_t> shape;  // [rows] or [rows, columns]; matrices are [out, in]
  bool decays = false;              // weight decay applies (matrices that are not norms or biases)
  Init init = Init::normal;
  std::vector<ParameterPart> parts;
  LayerIndex layer = LayerIndex::none();  // none: of no layer
  Stage stage = Stage::embedding;         // whose segments use it: embedding, before, after, loss
};

// Names, in this order: embedding [V, h], positions [P, h] (learned positions), then for layer i "layers.i." and
//   attn_norm [h], attn_norm.bias, qkv [(heads + 2 kv_heads) D, h] rows q|k|v head by head, qkv.bias,
//   q_norm [D], k_norm [D], out [h, heads D], out.bias, mlp_norm [h], mlp_norm.bias,
//   mlp_in [2 ffn, h] rows gate|up (gated) or [ffn, h], mlp_in.bias, mlp_out [h, ffn], mlp_out.bias;
// then final_norm [h], final_norm.bias, head [V, h] (absent when tied). Parameters that a shape lacks are left out.
std::vector<ParameterSpec> parameters(const Shape& shape);

// Memory of parameters during training, each at a multiple of 64 bytes: weights in the compute dtype, gradients in
// float32, and for the optimizer two float32 moments (and float32 master weights where `element_bytes` is 2).
struct StateBytes {
  Bytes weights, gradients, optimizer;
};
Bytes parameter_bytes(const ParameterSpec& spec, std::int64_t element_bytes);
// For the parameters of one stage of a layer; without a layer: for all that belong to none.
StateBytes state_bytes(const Shape& shape, int element_bytes, LayerIndex layer, Stage stage = Stage::embedding);

}  // namespace memo::model
