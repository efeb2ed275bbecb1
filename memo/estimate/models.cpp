// The table of named shapes.
#include "memo/estimate/models.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "memo/base/text.h"

namespace memo::estimate {
namespace {

struct Named {
  const char *name, *family;
  std::int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab;
  bool tied = false;
};

constexpr Named named[] = {
    {"gpt-7b", "gpt2", 4096, 32, 32, 32, 128, 16384, 50257, true},
    {"gpt-13b", "gpt2", 5120, 40, 40, 40, 128, 20480, 50257, true},
    {"gpt-30b", "gpt2", 7168, 48, 56, 56, 128, 28672, 50257, true},
    {"gpt-65b", "gpt2", 8192, 80, 64, 64, 128, 32768, 50257, true},
    {"llama-2-7b", "llama", 4096, 32, 32, 32, 128, 11008, 32000},
    {"llama-2-13b", "llama", 5120, 40, 40, 40, 128, 13824, 32000},
    {"llama-3-8b", "llama", 4096, 32, 32, 8, 128, 14336, 128256},
    {"llama-3-70b", "llama", 8192, 80, 64, 8, 128, 28672, 128256},
    {"llama-3-405b", "llama", 16384, 126, 128, 8, 128, 53248, 128256},
    {"qwen2.5-3b", "qwen2", 2048, 36, 16, 2, 128, 11008, 151936, true},
    {"qwen2.5-7b", "qwen2", 3584, 28, 28, 4, 128, 18944, 152064},
    {"qwen2.5-14b", "qwen2", 5120, 48, 40, 8, 128, 13824, 152064},
    {"qwen2.5-32b", "qwen2", 5120, 64, 40, 8, 128, 27648, 152064},
    {"qwen2.5-72b", "qwen2", 8192, 80, 64, 8, 128, 29568, 152064},
    {"qwen3-0.6b", "qwen3", 1024, 28, 16, 8, 128, 3072, 151936, true},
    {"qwen3-1.7b", "qwen3", 2048, 28, 16, 8, 128, 6144, 151936, true},
    {"qwen3-4b", "qwen3", 2560, 36, 32, 8, 128, 9728, 151936, true},
    {"qwen3-8b", "qwen3", 4096, 36, 32, 8, 128, 12288, 151936},
    {"qwen3-14b", "qwen3", 5120, 40, 40, 8, 128, 17408, 151936},
    {"qwen3-32b", "qwen3", 5120, 64, 64, 8, 128, 25600, 151936},
};

}  // namespace

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Named& model : named) all.emplace_back(model.name);
    return all;
  }();
  return names;
}

Result<model::Shape> find_model(const std::string& name) {
  for (const Named& model : named) {
    if (name != model.name) continue;
    MEMO_TRY(const model::Family* family, model::find_family(model.family, name));
    model::Shape shape = family->defaults;
    shape.family = model.family;
    shape.hidden = model.hidden, shape.layers = model.layers, shape.ffn = model.ffn, shape.vocab = model.vocab;
    shape.heads = model.heads, shape.kv_heads = model.kv_heads, shape.head_dim = model.head_dim;
    shape.tied = model.tied;
    shape.position = model::Position::rope;  // a learned table of a million rows would outgrow the model
    return shape;
  }
  const Path path(name);
  if (std::filesystem::is_directory(path)) return model::read_config(path);
  if (path.filename() == "config.json") return model::read_config(path.has_parent_path() ? path.parent_path() : ".");
  return bad_input(fmt::format("unknown model '{}'{}; name a folder with a config.json, or one of {}", name,
                               did_you_mean(name, model_names()), fmt::join(model_names(), ", ")));
}

}  // namespace memo::estimate
