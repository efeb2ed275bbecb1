// Decides which files of a Hugging Face folder are its weights.
#pragma once

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::store {

// True if the folder has model.safetensors, or its index and shards. False if it holds only a config and its usual
// companions (text, tokenizers, pictures). An error if it, or a folder below it, holds weights in another form, since
// these must not be replaced by random ones.
Result<bool> has_weights(const Path& folder);

}  // namespace memo::store
