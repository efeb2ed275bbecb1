// Reads and writes weights and optimizer state: a Hugging Face folder, and a checkpoint's state file.
#pragma once

#include <functional>
#include <string>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/libtorch/model/model_state.h"
#include "memo/store/manifest.h"

namespace memo::libtorch {

using Note = std::function<void(const std::string&)>;  // tells the user a line

// Reads model.safetensors (or its shards) into the masters, converting to float32. A tensor that is missing or has
// another shape is an error that names it; tensors that the model does not have are noted.
Status load_weights(ModelState& state, const Path& folder, const Note& note);
// The same errors, from the files' headers alone.
Status check_weights(const model::Shape& shape, const Path& folder);
// Writes the weights in the compute dtype as a Hugging Face folder's model.safetensors.
Result<std::vector<store::FileSum>> save_weights(ModelState& state, const Path& folder, const Progress& moved);

// The moments, and the masters of a bfloat16 model.
Result<store::FileSum> save_optimizer(ModelState& state, const Path& file, const Progress& moved);
Status load_optimizer(ModelState& state, const Path& file);

}  // namespace memo::libtorch
