// Which files of a Hugging Face folder are its weights.
#pragma once

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::store {

// Whether the folder has model.safetensors, or its index and shards. An error names what it holds in another form, or
// in a folder below: weights that are there are not to be replaced by random ones. False: it holds nothing but a config
// and what goes with one (text, tokenizers, pictures).
Result<bool> has_weights(const Path& folder);

}  // namespace memo::store
