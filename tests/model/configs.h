// The tiny models of tests/data/configs, saved by transformers.
#pragma once

#include <string>

#include "memo/base/file.h"

namespace memo::model {

inline const std::string all_configs[] = {
    "gpt2", "gpt2_untied", "llama", "llama_biases", "mistral", "mistral_no_window", "qwen2", "qwen3", "qwen3_biases"};
inline Path config_folder(const std::string& name) { return Path(MEMO_TEST_DATA) / "configs" / name; }

}  // namespace memo::model
