// The families, one function a file. A new family is a file here and a line in memo/model/shape.cpp.
#pragma once

#include "memo/model/config_reader.h"

namespace memo::model {

const Family& gpt2();
const Family& llama();
const Family& mistral();
const Family& qwen2();
const Family& qwen3();

// The common part of the families after Llama: RMS norm, rotary positions, gated SiLU, no fused tensors.
std::vector<TensorNames> llama_tensors();
// Reads keys with the same meaning in all of them; a family reads its other keys and returns `reader.status()`.
void read_llama_keys(ConfigReader& reader, Shape& shape);
nlohmann::json write_llama_keys(const Shape& shape);
// Writes the keys that ConfigReader::windowed_layers reads.
void write_windowed_layers(const Shape& shape, nlohmann::json& config);

}  // namespace memo::model
