// Models by name, for users without a config.json.
#pragma once

#include <string>
#include <vector>

#include "memo/base/result.h"
#include "memo/model/shape.h"

namespace memo::estimate {

// gpt-7b ... gpt-65b (MEMO, SIGMOD 2025, table 2), and sizes of the llama and qwen families.
const std::vector<std::string>& model_names();
// Finds a model by name, or reads a Hugging Face config.json or its folder. Learned positions of a config get as many
// rows as the context.
Result<model::Shape> find_model(const std::string& name);

}  // namespace memo::estimate
