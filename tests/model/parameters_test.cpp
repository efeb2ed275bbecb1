// Our parameters against the names and shapes of the models that transformers builds from the same config.json.
#include "memo/model/parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/model/configs.h"

namespace memo::model {
namespace {

using Sizes = std::vector<std::int64_t>;

class Parameters : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const Result<Shape> shape = read_config(config_folder(GetParam()));
    ASSERT_TRUE(shape) << shape.error().message;
    shape_ = *shape;
    const auto theirs = read_json(config_folder(GetParam()) / "parameters.json");
    ASSERT_TRUE(theirs);
    theirs_ = theirs->get<std::map<std::string, Sizes>>();
  }
  Shape shape_;
  std::map<std::string, Sizes> theirs_;
};

TEST_P(Parameters, AreTheirsEachOnceWithTheirShapes) {
  std::map<std::string, Sizes> found;
  for (const ParameterSpec& ours : parameters(shape_)) {
    std::int64_t row = 0;
    for (const ParameterPart& part : ours.parts) {
      EXPECT_EQ(part.row, row) << ours.name << ": parts lie one after another";
      EXPECT_EQ(part.source_row, 0) << part.name;
      row += part.rows;
      Sizes shape = ours.shape;
      shape[0] = part.rows;
      if (part.transposed) std::reverse(shape.begin(), shape.end());
      EXPECT_TRUE(found.emplace(part.name, shape).second) << part.name << " is used twice";
    }
    EXPECT_EQ(row, ours.shape[0]) << ours.name << ": parts cover all rows";
  }
  EXPECT_EQ(found, theirs_);
}

TEST_P(Parameters, CountIsTheirs) {
  std::int64_t count = 0;
  for (const auto& [name, shape] : theirs_) {
    std::int64_t size = 1;
    for (const std::int64_t n : shape) size *= n;
    count += size;
  }
  EXPECT_EQ(parameter_count(shape_), count);
}

TEST_P(Parameters, OnlyMatricesDecayAndOnlyResidualOutputsStartSmaller) {
  for (const ParameterSpec& p : parameters(shape_)) {
    EXPECT_EQ(p.decays, p.shape.size() == 2) << p.name;
    const bool residual = p.name.ends_with(".out") || p.name.ends_with(".mlp_out");
    const Init expected = p.name.ends_with(".bias")   ? Init::zero
                          : p.name.ends_with("_norm") ? Init::one
                          : residual                  ? Init::residual_normal
                                                      : Init::normal;
    EXPECT_EQ(p.init, expected) << p.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Configs, Parameters, testing::ValuesIn(all_configs),
                         [](const auto& info) { return info.param; });

std::vector<std::string> names(const std::string& config) {
  std::vector<std::string> names;
  for (const ParameterSpec& p : parameters(*read_config(config_folder(config)))) names.push_back(p.name);
  names.resize(std::min<std::size_t>(names.size(), 14));
  return names;
}

TEST(ParameterOrder, IsThatOfTheHeader) {
  EXPECT_EQ(names("gpt2"),
            (std::vector<std::string>{"embedding", "positions", "layers.0.attn_norm", "layers.0.attn_norm.bias",
                                      "layers.0.qkv", "layers.0.qkv.bias", "layers.0.out", "layers.0.out.bias",
                                      "layers.0.mlp_norm", "layers.0.mlp_norm.bias", "layers.0.mlp_in",
                                      "layers.0.mlp_in.bias", "layers.0.mlp_out", "layers.0.mlp_out.bias"}));
  EXPECT_EQ(names("qwen3"),
            (std::vector<std::string>{"embedding", "layers.0.attn_norm", "layers.0.qkv", "layers.0.q_norm",
                                      "layers.0.k_norm", "layers.0.out", "layers.0.mlp_norm", "layers.0.mlp_in",
                                      "layers.0.mlp_out", "layers.1.attn_norm", "layers.1.qkv", "layers.1.q_norm",
                                      "layers.1.k_norm", "layers.1.out"}));
}

TEST(ParameterParts, QueryKeyValueAndGateUpFollowEachOther) {
  const auto all = parameters(*read_config(config_folder("llama")));  // 4 heads, 2 key heads of 8, ffn 48
  const auto find = [&](const std::string& name) {
    return *std::find_if(all.begin(), all.end(), [&](const ParameterSpec& p) { return p.name == name; });
  };
  const ParameterSpec qkv = find("layers.1.qkv");
  EXPECT_EQ(qkv.shape, (Sizes{64, 32}));
  ASSERT_EQ(qkv.parts.size(), 3u);
  EXPECT_EQ(qkv.parts[1].name, "model.layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(qkv.parts[1].row, 32);
  EXPECT_EQ(qkv.parts[1].rows, 16);
  const ParameterSpec mlp_in = find("layers.0.mlp_in");
  ASSERT_EQ(mlp_in.parts.size(), 2u);
  EXPECT_EQ(mlp_in.parts[0].name, "model.layers.0.mlp.gate_proj.weight");
  EXPECT_EQ(mlp_in.parts[1].name, "model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(mlp_in.parts[1].row, 48);
}

// Narayanan et al. (SC 2021), equation 3, without recomputation: 72 S L h^2 (1 + S / 6h + V / 12 L h), of an MLP of 4h
// and as many key heads as heads.
TEST(ModelFlops, AreTheFormulaOfMegatronsPaper) {
  Shape shape;
  shape.hidden = 4096, shape.layers = 32, shape.heads = shape.kv_heads = 32, shape.head_dim = 128;
  shape.ffn = 16384, shape.vocab = 50257, shape.activation = Activation::gelu_tanh;
  const double s = 32768, l = 32, h = 4096, v = 50257;
  const double formula = 72 * s * l * h * h * (1 + s / (6 * h) + v / (12 * l * h));
  EXPECT_NEAR(model_flops(shape, Tokens(32768), false) / formula, 1, 1e-9);
  // A causal mask leaves half of attention's.
  EXPECT_NEAR(model_flops(shape, Tokens(32768), false) - model_flops(shape, Tokens(32768), true), 6 * l * s * s * h,
              1e9);
}

}  // namespace
}  // namespace memo::model
