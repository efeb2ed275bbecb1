// Reads, writes and computes rotary frequencies, in float32 where transformers does (modeling_rope_utils.py of 5.23),
// so that angles at long positions agree.
#include "memo/model/rope.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "memo/model/config_reader.h"

namespace memo::model {
namespace {

const std::vector<std::string> keys{"rope_theta",
                                    "rope_type",
                                    "type",
                                    "factor",
                                    "low_freq_factor",
                                    "high_freq_factor",
                                    "original_max_position_embeddings",
                                    "partial_rotary_factor"};
const std::vector<std::string> yarn_keys{"attention_factor", "beta_fast",      "beta_slow",
                                         "mscale",           "mscale_all_dim", "truncate"};

// transformers' recommended scale of queries and keys for a context that is `factor` times as long.
double yarn_growth(double factor, double mscale = 1) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double read_factor(ConfigReader& reader) {
  double factor = 1;
  reader.required("factor", factor);
  if (!(factor >= 1)) reader.fail("'factor' must be at least 1");
  return factor;
}

YarnRope read_yarn(ConfigReader& reader, std::int64_t max_positions, std::int64_t original_context) {
  YarnRope yarn;
  yarn.original_context = original_context;
  yarn.factor = original_context > 0 ? static_cast<double>(max_positions) / static_cast<double>(original_context) : 0;
  if (!reader.is_null("factor")) reader.required("factor", yarn.factor);  // null: the contexts' ratio
  double mscale = 0, mscale_all_dim = 0;
  reader.optional("mscale", mscale);
  reader.optional("mscale_all_dim", mscale_all_dim);
  yarn.attention_factor = mscale != 0 && mscale_all_dim != 0
                              ? yarn_growth(yarn.factor, mscale) / yarn_growth(yarn.factor, mscale_all_dim)
                              : yarn_growth(yarn.factor);
  reader.optional("attention_factor", yarn.attention_factor);
  reader.optional("beta_fast", yarn.beta_fast);
  reader.optional("beta_slow", yarn.beta_slow);
  if (yarn.beta_fast == 0) yarn.beta_fast = YarnRope{}.beta_fast;
  if (yarn.beta_slow == 0) yarn.beta_slow = YarnRope{}.beta_slow;
  yarn.truncate = !reader.is_null("truncate");
  reader.optional("truncate", yarn.truncate);
  if (!(yarn.factor >= 1 && yarn.attention_factor > 0 && yarn.beta_slow > 0 && yarn.beta_fast >= yarn.beta_slow &&
        original_context > 0))
    reader.fail(
        "factors must satisfy 1 <= factor, 0 < attention_factor, 0 < beta_slow <= beta_fast, and "
        "'original_max_position_embeddings' must be above 0");
  return yarn;
}

Llama3Rope read_llama3(ConfigReader& reader, std::int64_t original_context) {
  Llama3Rope scaling;
  reader.required("factor", scaling.factor);
  reader.required("low_freq_factor", scaling.low_freq_factor);
  reader.required("high_freq_factor", scaling.high_freq_factor);
  scaling.original_context = original_context;
  if (!(scaling.factor >= 1 && scaling.low_freq_factor > 0 && scaling.high_freq_factor > scaling.low_freq_factor &&
        scaling.original_context > 0))
    reader.fail("factors must satisfy 1 <= factor and 0 < low_freq_factor < high_freq_factor");
  return scaling;
}

float frequency_of(float base, std::int64_t j, float dim) {
  return 1.0f / std::pow(base, static_cast<float>(2 * j) / dim);
}

// The base of the angles in sequences of `rope`'s context.
float dynamic_base(const Shape& shape, const DynamicRope& rope) {
  const auto base = static_cast<float>(shape.rope_theta), factor = static_cast<float>(rope.factor);
  if (rope.context <= shape.max_positions) return base;
  const float longer = factor * static_cast<float>(rope.context) / static_cast<float>(shape.max_positions);
  const auto dim = static_cast<float>(shape.head_dim);
  return base * std::pow(longer - static_cast<float>(rope.factor - 1), dim / (dim - 2));
}

float llama3_frequency(const Llama3Rope& rope, float frequency) {
  const auto context = static_cast<float>(rope.original_context), factor = static_cast<float>(rope.factor);
  const auto low = static_cast<float>(rope.low_freq_factor), high = static_cast<float>(rope.high_freq_factor);
  const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
  if (wavelength > context / low) return frequency / factor;
  if (wavelength < context / high) return frequency;
  const float smooth = (context / wavelength - low) / (high - low);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

void rescale_by_yarn(const YarnRope& rope, double theta, std::vector<float>& frequencies) {
  const double dim = 2.0 * static_cast<double>(frequencies.size());
  const auto dimension_of = [&](double turns) {  // that turns so often in the original context
    const double wavelength = static_cast<double>(rope.original_context) / (turns * 2 * std::numbers::pi);
    return dim * std::log(wavelength) / (2 * std::log(theta));
  };
  double low = dimension_of(rope.beta_fast), high = dimension_of(rope.beta_slow);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (std::size_t j = 0; j < frequencies.size(); ++j) {
    const float ramp = (static_cast<float>(j) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float kept = 1 - std::clamp(ramp, 0.0f, 1.0f);
    const float divided = frequencies[j] / static_cast<float>(rope.factor);
    frequencies[j] = divided * (1 - kept) + frequencies[j] * kept;
  }
}

}  // namespace

// Precedence as in transformers' RotaryEmbeddingConfigMixin (5.23): a rope_scaling that is not empty replaces
// rope_parameters. A rope_theta inside of it wins over one beside it; an original_max_position_embeddings beside it
// wins over one inside. "type" is the old name of "rope_type".
void read_rope(ConfigReader& reader, Shape& shape) {
  reader.supports_only("partial_rotary_factor", 1.0, 1.0);
  reader.optional("rope_theta", shape.rope_theta);
  const char* name = "rope_scaling";
  const nlohmann::json* table = reader.find(name);
  if (table == nullptr || table->empty()) table = reader.find(name = "rope_parameters");
  static const nlohmann::json none = nlohmann::json::object();
  if (table == nullptr) table = &none;
  if (!table->is_object()) return reader.wrong_type(name, *table, "an object");

  ConfigReader inner(*table, fmt::format("{}: in '{}'", reader.where(), name));
  inner.supports_only("partial_rotary_factor", 1.0, 1.0);
  inner.optional("rope_theta", shape.rope_theta);
  std::string type = "default";
  inner.optional("type", type);
  inner.optional("rope_type", type);
  std::vector<std::string> known = keys;
  if (type == "yarn") known.insert(known.end(), yarn_keys.begin(), yarn_keys.end());
  std::int64_t original_context = shape.max_positions;
  inner.optional("original_max_position_embeddings", original_context);
  reader.optional("original_max_position_embeddings", original_context);

  if (type == "linear")
    shape.rope_scaling = LinearRope{read_factor(inner)};
  else if (type == "dynamic")
    shape.rope_scaling = DynamicRope{read_factor(inner), 0};
  else if (type == "yarn")
    shape.rope_scaling = read_yarn(inner, shape.max_positions, original_context);
  else if (type == "llama3")
    shape.rope_scaling = read_llama3(inner, original_context);
  else if (type != "default")
    inner.fail(
        fmt::format("'rope_type' is \"{}\", which is not supported; only \"default\", \"linear\", \"dynamic\", "
                    "\"yarn\" and \"llama3\" are",
                    type));
  for (const auto& [key, value] : table->items())
    if (std::find(known.begin(), known.end(), key) == known.end() && !value.is_null())
      reader.fail(fmt::format("'{}.{}' is not supported", name, key));
  if (!(shape.rope_theta > (type == "yarn" ? 1 : 0)))
    inner.fail(fmt::format("'rope_theta' must be above {}", type == "yarn" ? 1 : 0));
  if (type == "dynamic" && shape.head_dim == 2) inner.fail("\"dynamic\" needs a head_dim above 2");
  reader.adopt(inner);
}

nlohmann::json rope_parameters(const Shape& shape) {
  nlohmann::json rope{{"rope_type", "default"}, {"rope_theta", shape.rope_theta}};
  if (const auto* linear = std::get_if<LinearRope>(&shape.rope_scaling)) {
    rope["rope_type"] = "linear";
    rope["factor"] = linear->factor;
  } else if (const auto* dynamic = std::get_if<DynamicRope>(&shape.rope_scaling)) {
    rope["rope_type"] = "dynamic";
    rope["factor"] = dynamic->factor;
  } else if (const auto* yarn = std::get_if<YarnRope>(&shape.rope_scaling)) {
    rope["rope_type"] = "yarn";
    rope["factor"] = yarn->factor;
    rope["original_max_position_embeddings"] = yarn->original_context;
    // Leaves out values that follow from others, as people write it.
    if (yarn->attention_factor != yarn_growth(yarn->factor)) rope["attention_factor"] = yarn->attention_factor;
    if (yarn->beta_fast != YarnRope{}.beta_fast) rope["beta_fast"] = yarn->beta_fast;
    if (yarn->beta_slow != YarnRope{}.beta_slow) rope["beta_slow"] = yarn->beta_slow;
    if (!yarn->truncate) rope["truncate"] = false;
  } else if (const auto* llama3 = std::get_if<Llama3Rope>(&shape.rope_scaling)) {
    rope["rope_type"] = "llama3";
    rope["factor"] = llama3->factor;
    rope["low_freq_factor"] = llama3->low_freq_factor;
    rope["high_freq_factor"] = llama3->high_freq_factor;
    rope["original_max_position_embeddings"] = llama3->original_context;
  }
  return rope;
}

Rotation rotation(const Shape& shape) {
  Rotation result;
  if (shape.position != Position::rope) return result;
  const auto dim = static_cast<float>(shape.head_dim);
  const auto* dynamic = std::get_if<DynamicRope>(&shape.rope_scaling);
  const float base = dynamic == nullptr ? static_cast<float>(shape.rope_theta) : dynamic_base(shape, *dynamic);
  for (std::int64_t j = 0; j < shape.head_dim / 2; ++j) result.frequencies.push_back(frequency_of(base, j, dim));
  if (const auto* linear = std::get_if<LinearRope>(&shape.rope_scaling)) {
    for (float& frequency : result.frequencies) frequency /= static_cast<float>(linear->factor);
  } else if (const auto* llama3 = std::get_if<Llama3Rope>(&shape.rope_scaling)) {
    for (float& frequency : result.frequencies) frequency = llama3_frequency(*llama3, frequency);
  } else if (const auto* yarn = std::get_if<YarnRope>(&shape.rope_scaling)) {
    rescale_by_yarn(*yarn, shape.rope_theta, result.frequencies);
    result.scale = static_cast<float>(yarn->attention_factor);
  }
  return result;
}

}  // namespace memo::model
