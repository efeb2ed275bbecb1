// Finds families, reads and writes config.json, and checks shapes.
#include "memo/model/shape.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "memo/base/json.h"
#include "memo/base/python_json.h"
#include "memo/base/text.h"
#include "memo/model/families/families.h"

namespace memo::model {

const std::vector<const Family*>& families() {
  static const std::vector<const Family*> all{&gpt2(), &llama(), &mistral(), &qwen2(), &qwen3()};
  return all;
}

Result<const Family*> find_family(const std::string& name, const std::string& where) {
  std::string known;
  for (const Family* family : families()) {
    if (family->name == name) return family;
    known += (known.empty() ? "" : ", ") + family->name;
  }
  return bad_input(fmt::format("{}: model family '{}' is not supported; supported are {}", where, name, known));
}

namespace {

// Accepts the family's classes, also with the prefix that FSDP puts before a class's name.
void read_architectures(ConfigReader& reader, const Family& family) {
  const auto* found = reader.find("architectures");
  if (found == nullptr) return;
  if (!found->is_array()) return reader.wrong_type("architectures", *found, "a list");
  for (const nlohmann::json& name : *found) {
    const std::string text = name.is_string() ? name.get<std::string>() : json_text(name);
    const std::string plain = text.starts_with("FSDP") ? text.substr(4) : text;
    if (plain != family.architecture && plain != family.base)
      reader.fail(fmt::format("'architectures' is {}, which is not supported; only [\"{}\"] and [\"{}\"] are",
                              found->dump(), family.architecture, family.base));
  }
}

}  // namespace

Result<Shape> read_config(const Path& folder) {
  const Path file = folder / "config.json";
  MEMO_TRY(const nlohmann::json config, read_python_json(file));
  MEMO_TRY(const std::string name, json_field<std::string>(config, "model_type", file));
  MEMO_TRY(const Family* family, find_family(name, file.string()));

  ConfigReader reader(config, file);
  read_architectures(reader, *family);
  // Refuses keys that transformers' base class of configs would act on.
  for (const char* feature : {"quantization_config", "per_layer_config", "is_encoder_decoder"}) reader.refuses(feature);
  // No kernel of the decoder has a soft cap.
  for (const char* cap : {"attn_logit_softcapping", "final_logit_softcapping"}) reader.refuses(cap);
  MEMO_CHECKED(reader.status());

  MEMO_TRY(Shape shape, family->read(config, file));
  MEMO_CHECKED(check_shape(shape, file.string()));
  return shape;
}

Result<std::string> config_text(const Shape& shape, job::DType dtype, const std::optional<Path>& like) {
  MEMO_TRY(const Family* family, find_family(shape.family, "config.json"));
  // Writes null for special tokens, since there is no tokenizer: absent keys would mean the class's defaults.
  nlohmann::json config{{"bos_token_id", nullptr}, {"eos_token_id", nullptr}, {"pad_token_id", nullptr}};
  if (like) {
    MEMO_TRY(config, read_python_json(*like));
    for (const char* replaced : {"rope_scaling", "rope_theta", "original_max_position_embeddings", "dtype"})
      config.erase(replaced);
  }
  config.update(family->write(shape));
  config["architectures"] = {family->architecture};
  config["model_type"] = family->name;
  config["torch_dtype"] = dtype == job::DType::bfloat16 ? "bfloat16" : "float32";  // of the weights beside it
  return python_json_text(config) + "\n";
}

Result<Shape> job_shape(const job::Job& job) {
  const job::ModelSource& model = job.model;
  if (model.path) {
    MEMO_TRY(Shape shape, read_config(*model.path));
    const auto* dynamic = std::get_if<DynamicRope>(&shape.rope_scaling);
    if (dynamic != nullptr && job.data.documents_apart && job.train.context.value() > shape.max_positions)
      return bad_input(
          fmt::format("{}: data.documents = \"apart\" does not go with rope_type \"dynamic\" beyond the model's {} "
                      "positions: frequencies would depend on each document's length; use \"joined\"",
                      job.file.string(), shape.max_positions));
    return for_context(std::move(shape), job.train.context, job.file.string());
  }
  const std::string where = job.file.string() + ": [model]";
  MEMO_TRY(const Family* family, find_family(model.family, where));
  Shape shape = family->defaults;
  shape.hidden = model.hidden;
  shape.layers = model.layers;
  shape.heads = model.heads;
  shape.kv_heads = model.kv_heads > 0 ? model.kv_heads : model.heads;
  shape.head_dim = model.head_dim;
  if (shape.head_dim == 0) {
    if (shape.hidden % shape.heads != 0)
      return bad_input(fmt::format("{}: hidden size {} is not a multiple of the {} heads; give head_dim", where,
                                   shape.hidden, shape.heads));
    shape.head_dim = shape.hidden / shape.heads;
  }
  shape.ffn = model.ffn;
  shape.vocab = model.vocab;
  shape.tied = model.tied.value_or(shape.tied);
  shape.max_positions = job.train.context.value();
  MEMO_CHECKED(check_shape(shape, where));
  return shape;
}

Status check_shape(const Shape& shape, const std::string& where) {
  const auto refuse = [&](const std::string& what) { return bad_input(fmt::format("{}: {}", where, what)); };
  struct Size {
    const char* name;
    std::int64_t value;
  };
  for (const Size& size :
       {Size{"hidden size", shape.hidden}, Size{"number of layers", shape.layers}, Size{"number of heads", shape.heads},
        Size{"number of key heads", shape.kv_heads}, Size{"head_dim", shape.head_dim}, Size{"ffn size", shape.ffn},
        Size{"vocabulary", shape.vocab}, Size{"number of positions", shape.max_positions}}) {
    if (size.value < 1 || size.value > std::numeric_limits<std::int32_t>::max())
      return refuse(fmt::format("the {} is {}; it must be from 1 to 2147483647", size.name, size.value));
  }
  if (shape.heads % shape.kv_heads != 0)
    return refuse(fmt::format("{} heads can't share {} key heads evenly; one must divide the other", shape.heads,
                              shape.kv_heads));
  if (shape.position == Position::rope && shape.head_dim % 2 != 0)
    return refuse(fmt::format("head_dim {} is odd; rotary positions need an even one", shape.head_dim));
  if (shape.sliding_window < 0) return refuse("'sliding_window' must not be negative");
  if (!(shape.norm_eps > 0)) return refuse("the norm's epsilon must be above 0");
  MEMO_TRY(const Family* family, find_family(shape.family, where));
  return family->check == nullptr ? Status{} : family->check(shape, where);
}

Result<Shape> for_context(Shape shape, Tokens context, const std::string& where) {
  if (shape.position == Position::learned && context.value() > shape.max_positions)
    return bad_input(
        fmt::format("{}: the context of {} tokens is longer than the model's {} learned positions; use at "
                    "most that",
                    where, context.value(), shape.max_positions));
  if (auto* dynamic = std::get_if<DynamicRope>(&shape.rope_scaling)) dynamic->context = context.value();
  return shape;
}

}  // namespace memo::model
