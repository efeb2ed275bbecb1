// config.json: what transformers saved is read; what is written reads as the same shape; what is not supported is
// refused by name.
#include "memo/model/shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "memo/base/json.h"
#include "tests/model/configs.h"

namespace memo::model {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Config : public testing::Test {
 protected:
  Config() : folder_(Path(testing::TempDir()) / ("memo-shape-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~Config() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] Path file() const { return folder_ / "config.json"; }
  Result<Shape> read(const std::string& text) {
    EXPECT_TRUE(write_atomically(file(), text));
    return read_config(folder_);
  }
  // The saved config `name` with `change` merged into it; null removes a key, as in a JSON merge patch.
  Result<Shape> read_changed(const std::string& name, const json& change) {
    json config = *read_json(config_folder(name) / "config.json");
    config.merge_patch(change);
    return read(json_text(config));
  }

  Path folder_;
};

class SavedConfig : public Config, public testing::WithParamInterface<std::string> {};

TEST_P(SavedConfig, ReadsAsTheSameShapeWhenWritten) {
  const Result<Shape> shape = read_config(config_folder(GetParam()));
  ASSERT_TRUE(shape) << shape.error().message;
  for (const std::optional<Path>& like :
       {std::optional<Path>(), std::optional<Path>(config_folder("llama") / "config.json")}) {
    const Result<std::string> text = config_text(*shape, job::DType::float32, like);
    ASSERT_TRUE(text);
    const Result<Shape> again = read(*text);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_TRUE(*again == *shape) << *text;
  }
}

INSTANTIATE_TEST_SUITE_P(Configs, SavedConfig, testing::ValuesIn(all_configs),
                         [](const auto& info) { return info.param; });

TEST_F(Config, FamiliesDifferWhereTheyShould) {
  const Shape gpt2 = *read_config(config_folder("gpt2"));
  EXPECT_EQ(gpt2.norm, Norm::layer);
  EXPECT_EQ(gpt2.activation, Activation::gelu_tanh);
  EXPECT_EQ(gpt2.position, Position::learned);
  EXPECT_EQ(gpt2.ffn, 128) << "n_inner null: four times the hidden size";
  EXPECT_EQ(gpt2.max_positions, 64);
  EXPECT_TRUE(gpt2.tied && gpt2.qkv_bias && gpt2.out_bias && gpt2.mlp_bias);
  EXPECT_EQ(read_config(config_folder("gpt2_untied"))->ffn, 80);

  const Shape llama = *read_config(config_folder("llama"));
  EXPECT_EQ(llama.hidden, 32);
  EXPECT_EQ(llama.layers, 2);
  EXPECT_EQ(llama.heads, 4);
  EXPECT_EQ(llama.kv_heads, 2);
  EXPECT_EQ(llama.head_dim, 8);
  EXPECT_EQ(llama.ffn, 48);
  EXPECT_EQ(llama.vocab, 101);
  EXPECT_EQ(llama.norm, Norm::rms);
  EXPECT_EQ(llama.norm_eps, 1e-6);
  EXPECT_EQ(llama.rope_theta, 5e5);
  EXPECT_EQ(llama.rope_scaling, (RopeScaling(Llama3Rope{8, 1, 4, 32})));
  EXPECT_FALSE(llama.tied || llama.qkv_bias || llama.out_bias || llama.mlp_bias || llama.qk_norm);

  const Shape biases = *read_config(config_folder("llama_biases"));
  EXPECT_TRUE(biases.tied && biases.qkv_bias && biases.out_bias && biases.mlp_bias);
  EXPECT_EQ(biases.rope_scaling, RopeScaling());
  EXPECT_EQ(read_config(config_folder("mistral"))->sliding_window, 48);
  EXPECT_EQ(read_config(config_folder("mistral_no_window"))->sliding_window, 0);
  EXPECT_EQ(read_config(config_folder("mistral_no_window"))->head_dim, 16);
  const Shape qwen2 = *read_config(config_folder("qwen2"));
  EXPECT_TRUE(qwen2.qkv_bias && !qwen2.out_bias && qwen2.tied && !qwen2.qk_norm);
  EXPECT_EQ(qwen2.rope_theta, 1e6);
  const Shape qwen3 = *read_config(config_folder("qwen3"));
  EXPECT_TRUE(qwen3.qk_norm && !qwen3.qkv_bias && !qwen3.out_bias);
  EXPECT_EQ(qwen3.head_dim, 16);
}

TEST_F(Config, OlderSpellingsMeanTheSame) {
  const Shape now = *read_config(config_folder("llama"));
  for (const char* type : {"type", "rope_type"}) {
    const auto before = read_changed("llama", {{"rope_parameters", nullptr},
                                               {"rope_theta", 500000},
                                               {"head_dim", nullptr},
                                               {"attention_bias", nullptr},
                                               {"pretraining_tp", nullptr},
                                               {"rope_scaling",
                                                {{type, "llama3"},
                                                 {"factor", 8},
                                                 {"low_freq_factor", 1},
                                                 {"high_freq_factor", 4},
                                                 {"original_max_position_embeddings", 32}}}});
    ASSERT_TRUE(before) << before.error().message;
    EXPECT_TRUE(*before == now);
  }
}

TEST_F(Config, AbsentKeysMeanWhatTransformersTakes) {
  EXPECT_EQ(read_changed("llama", {{"num_key_value_heads", nullptr}})->kv_heads, 4);
  EXPECT_EQ(read_changed("mistral", {{"sliding_window", nullptr}})->sliding_window, 4096);
  EXPECT_EQ(read_changed("qwen3", {{"head_dim", nullptr}})->head_dim, 128);
  EXPECT_EQ(read_changed("qwen2", {{"rope_parameters", nullptr}})->rope_theta, 10000);
  EXPECT_TRUE(read_changed("gpt2", {{"tie_word_embeddings", nullptr}})->tied);
}

TEST_F(Config, RotaryScalingIsReadAndWritten) {
  const auto scaled = [&](const json& rope) {
    json change{{"rope_parameters", nullptr}, {"rope_scaling", rope}, {"max_position_embeddings", 128}};
    const Result<Shape> shape = read_changed("qwen2", change);
    EXPECT_TRUE(shape) << shape.error().message;
    const Result<std::string> text = config_text(*shape, job::DType::float32, file());
    EXPECT_TRUE(*read(*text) == *shape) << *text;
    return shape->rope_scaling;
  };
  EXPECT_EQ(scaled({{"type", "linear"}, {"factor", 2}}), RopeScaling(LinearRope{2}));
  EXPECT_EQ(scaled({{"type", "dynamic"}, {"factor", 4.0}}), RopeScaling(DynamicRope{4, 0}));
  const double growth = 0.1 * std::log(4.0) + 1;
  const json yarn{{"rope_type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 32}};
  EXPECT_EQ(scaled(yarn), RopeScaling(YarnRope{4, growth, 32, 1, 32, true}));
  json more = yarn;
  more.update({{"attention_factor", 1.5}, {"beta_fast", 20}, {"beta_slow", 0.5}, {"truncate", false}});
  EXPECT_EQ(scaled(more), RopeScaling(YarnRope{4, 1.5, 20, 0.5, 32, false}));
}

TEST_F(Config, DynamicFrequenciesAreOfTheContext) {
  const Shape shape = *read_changed("qwen2", {{"rope_parameters", {{"rope_type", "dynamic"}, {"factor", 2}}}});
  const auto at = [&](std::int64_t context) { return rotation(*for_context(shape, Tokens(context), "")).frequencies; };
  EXPECT_EQ(at(64), at(1)) << "64 positions are the model's own";
  EXPECT_EQ(at(64), rotation(shape).frequencies);
  EXPECT_EQ(at(65).front(), at(64).front());
  EXPECT_LT(at(65).back(), at(64).back());
  EXPECT_LT(at(66).back(), at(65).back());
}

TEST_F(Config, AWindowOfAllLayersIsReadAndWritten) {
  const Result<Shape> shape = read_changed(
      "qwen3",
      {{"use_sliding_window", true}, {"sliding_window", 9}, {"max_window_layers", 0}, {"layer_types", nullptr}});
  ASSERT_TRUE(shape) << shape.error().message;
  EXPECT_EQ(shape->sliding_window, 9);
  EXPECT_TRUE(*read(*config_text(*shape, job::DType::float32, file())) == *shape);
  EXPECT_EQ(read_changed("qwen3", {{"use_sliding_window", true}, {"layer_types", nullptr}})->sliding_window, 0)
      << "28 layers come before the first with a window";
}

TEST_F(Config, ABaseModelAndAWrappedOneAreTheSame) {
  for (const char* name : {"LlamaModel", "FSDPLlamaForCausalLM"})
    EXPECT_TRUE(read_changed("llama", {{"architectures", {name}}})) << name;
  EXPECT_TRUE(read_changed("llama", {{"architectures", json::array()}}));
}

TEST_F(Config, TwoNamesOfOneSizeMustAgree) {
  EXPECT_EQ(read_changed("gpt2", {{"n_embd", nullptr}, {"hidden_size", 64}})->hidden, 64);
  EXPECT_THAT(read_changed("gpt2", {{"hidden_size", 64}}).error().message,
              HasSubstr("'n_embd' is 32, but 'hidden_size' is 64: two names of one thing"));
}

TEST_F(Config, WhatIsNotSupportedIsRefusedByName) {
  struct Case {
    std::string config;
    json change;
    std::string says;
  };
  const auto rope = [](const json& inner) { return json{{"rope_parameters", inner}}; };
  const std::vector<Case> cases{
      {"llama", {{"model_type", "mixtral"}}, "model family 'mixtral' is not supported; supported are gpt2, llama"},
      {"llama", {{"model_type", nullptr}}, "'model_type' is missing"},
      {"llama", {{"architectures", {"LlamaForSequenceClassification"}}}, "'architectures' is"},
      {"llama", {{"quantization_config", {{"quant_method", "gptq"}}}}, "'quantization_config' is not supported"},
      {"llama", {{"per_layer_config", {{"0", {{"hidden_size", 8}}}}}}, "'per_layer_config' is not supported"},
      {"llama", {{"hidden_size", nullptr}}, "'hidden_size' is missing"},
      {"llama", {{"hidden_size", "32"}}, "'hidden_size' must be an integer, found \"32\""},
      {"llama", {{"hidden_size", 32.5}}, "'hidden_size' must be an integer, found 32.5"},
      {"llama", {{"hidden_act", "gelu"}}, "'hidden_act' is \"gelu\", which is not supported; only \"silu\" is"},
      {"llama",
       {{"attention_dropout", 0.1}},
       "'attention_dropout' is 0.1, but dropout is not supported; set it to 0.0"},
      {"llama", {{"pretraining_tp", 2}}, "'pretraining_tp' is 2, which is not supported; only 1 is"},
      {"llama", {{"partial_rotary_factor", 0.5}}, "'partial_rotary_factor' is 0.5"},
      {"llama", rope({{"partial_rotary_factor", 0.5}}), "in 'rope_parameters': 'partial_rotary_factor' is 0.5"},
      {"llama", {{"architectures", "LlamaForCausalLM"}}, "'architectures' must be a list, found \"LlamaForCausalLM\""},
      {"llama", rope({{"rope_type", "longrope"}}), "'rope_type' is \"longrope\", which is not supported; only"},
      {"llama", rope({{"rope_type", "linear"}, {"factor", 0.5}}), "in 'rope_parameters': 'factor' must be at least 1"},
      {"llama", rope({{"rope_type", "yarn"}, {"beta_slow", 40}}), "in 'rope_parameters': factors must satisfy"},
      {"llama", rope({{"rope_type", "yarn"}, {"rope_theta", 1}}), "'rope_theta' must be above 1"},
      {"llama", rope({{"rope_type", "linear"}, {"mscale", 2}}), "'rope_parameters.mscale' is not supported"},
      {"llama", rope({{"attention_factor", 1.5}}), "'rope_parameters.attention_factor' is not supported"},
      {"llama", rope({{"full_attention", {{"rope_theta", 1e4}}}}), "'rope_parameters.full_attention' is not supported"},
      {"llama", rope({{"factor", nullptr}}), "in 'rope_parameters': 'factor' is missing"},
      {"llama", rope({{"high_freq_factor", 1.0}}), "0 < low_freq_factor < high_freq_factor"},
      {"llama", rope({{"rope_theta", 0}}), "'rope_theta' must be above 0"},
      {"llama", rope(json::array({1})), "'rope_parameters' must be an object, found [1]"},
      {"llama", {{"rope_scaling", {{"type", "linear"}}}}, "in 'rope_scaling': 'factor' is missing"},
      {"llama", {{"num_key_value_heads", 3}}, "4 heads can't share 3 key heads evenly"},
      {"llama", {{"num_key_value_heads", 0}}, "the number of key heads is 0; it must be from 1"},
      {"llama", {{"num_attention_heads", 0}}, "the number of heads is 0; it must be from 1"},
      {"llama", {{"vocab_size", -1}}, "the vocabulary is -1"},
      {"llama", {{"head_dim", 7}}, "head_dim 7 is odd; rotary positions need an even one"},
      {"llama", {{"hidden_size", 34}}, "hidden size 34 must be a multiple of the 4 heads"},
      {"mistral", {{"num_key_value_heads", nullptr}}, "'num_key_value_heads' is missing"},
      {"mistral", {{"layer_types", {"sliding_attention"}}}, "'layer_types' is not supported"},
      {"mistral", {{"sliding_window", 0}}, "'sliding_window' is 0; it must be at least 1"},
      {"qwen2",
       {{"use_sliding_window", true}, {"max_window_layers", 1}, {"layer_types", nullptr}, {"sliding_window", 32}},
       "'use_sliding_window' is true for 1 of 2 layers"},
      {"qwen2", {{"layer_types", {"full_attention"}}}, "'layer_types' must be a list with one for each layer"},
      {"qwen3", {{"layer_types", {"full_attention", "sliding_attention"}}}, "'layer_types' has \"sliding_attention\""},
      {"gpt2", {{"activation_function", "relu"}}, "'activation_function' is \"relu\""},
      {"gpt2",
       {{"resid_pdrop", 0.1}},
       "'resid_pdrop' is 0.1, but dropout is not supported; set it to 0.0 in config.json"},
      {"gpt2", {{"attn_pdrop", nullptr}}, "'attn_pdrop' is 0.1 when it is absent, but dropout is not supported"},
      {"gpt2", {{"scale_attn_weights", false}}, "'scale_attn_weights' is false"},
      {"gpt2", {{"scale_attn_by_inverse_layer_idx", true}}, "'scale_attn_by_inverse_layer_idx' is not supported"},
      {"gpt2", {{"reorder_and_upcast_attn", true}}, "'reorder_and_upcast_attn' is not supported"},
      {"gpt2", {{"add_cross_attention", true}}, "'add_cross_attention' is not supported"},
      {"gpt2", {{"n_head", 5}}, "5 heads of 6 must make the hidden size 32"},
  };
  for (const Case& c : cases) {
    const Result<Shape> shape = read_changed(c.config, c.change);
    ASSERT_FALSE(shape) << c.config << ' ' << c.change;
    EXPECT_EQ(shape.error().kind, ErrorKind::bad_input);
    EXPECT_THAT(shape.error().message, testing::StartsWith(file().string() + ": ")) << c.change;
    EXPECT_THAT(shape.error().message, HasSubstr(c.says)) << c.change;
    EXPECT_THAT(shape.error().message, testing::Not(HasSubstr("\n"))) << c.change;
  }
}

TEST_F(Config, AFileThatIsNoConfigIsRefused) {
  EXPECT_THAT(read("{").error().message, HasSubstr("config.json: not JSON"));
  EXPECT_THAT(read("[]").error().message, HasSubstr("'model_type' is missing"));
  EXPECT_THAT(read_config(folder_ / "none").error().message, HasSubstr("config.json: cannot read: No such file"));
}

TEST_F(Config, TokenIdsAreKeptFromTheModelThatWasTrained) {
  ASSERT_TRUE(read_changed("llama", {{"eos_token_id", {5, 6}}, {"rope_scaling", {{"type", "default"}}}}));
  const json kept = json_of(*config_text(*read_config(folder_), job::DType::float32, file()));
  EXPECT_EQ(kept["eos_token_id"], (json{5, 6}));
  EXPECT_FALSE(kept.contains("rope_scaling")) << "the older spelling would win over rope_parameters";
  EXPECT_EQ(kept["architectures"], json{"LlamaForCausalLM"});
  const json fresh = json_of(*config_text(*read_config(folder_), job::DType::float32));
  EXPECT_TRUE(fresh["eos_token_id"].is_null());
}

job::Job sized_job() {
  job::Job job;
  job.file = "job.toml";
  job.model.hidden = 64;
  job.model.layers = 3;
  job.model.heads = 8;
  job.model.ffn = 96;
  job.model.vocab = 256;
  job.train.context = Tokens(128);
  return job;
}

TEST(JobShape, SizesAloneTakeTheFamilysDefaults) {
  job::Job job = sized_job();
  Result<Shape> llama = job_shape(job);
  ASSERT_TRUE(llama) << llama.error().message;
  EXPECT_EQ(llama->family, "llama");
  EXPECT_EQ(llama->kv_heads, 8);
  EXPECT_EQ(llama->head_dim, 8);
  EXPECT_FALSE(llama->tied);
  job.model.tied = true;
  job.model.kv_heads = 2;
  EXPECT_EQ(job_shape(job)->kv_heads, 2);
  EXPECT_TRUE(job_shape(job)->tied);
  for (const Family* family : families()) {
    job.model.kv_heads = 0;
    job.model.family = family->name;
    ASSERT_TRUE(job_shape(job)) << family->name;
    EXPECT_EQ(job_shape(job)->max_positions, 128) << "learned positions reach as far as the context";
  }
}

TEST(JobShape, WhatDoesNotFitIsRefused) {
  const auto refusal = [](auto change) {
    job::Job job = sized_job();
    change(job);
    const Result<Shape> shape = job_shape(job);
    return shape ? "accepted" : shape.error().message;
  };
  EXPECT_EQ(
      refusal([](job::Job& j) { j.model.family = "lama"; }),
      "job.toml: [model]: model family 'lama' is not supported; supported are gpt2, llama, mistral, qwen2, qwen3");
  EXPECT_EQ(refusal([](job::Job& j) { j.model.heads = 7; }),
            "job.toml: [model]: hidden size 64 is not a multiple of the 7 heads; give head_dim");
  EXPECT_EQ(refusal([](job::Job& j) { j.model.kv_heads = 3; }),
            "job.toml: [model]: 8 heads can't share 3 key heads evenly; one must divide the other");
  EXPECT_EQ(refusal([](job::Job& j) { j.model.family = "gpt2", j.model.kv_heads = 4; }),
            "job.toml: [model]: gpt2 has as many key heads as heads, found 4 and 8");
}

TEST(JobShape, AContextBeyondTheModelsReachIsRefused) {
  job::Job job = sized_job();
  job.model = {};
  const auto at = [&](const std::string& config, std::int64_t context) {
    job.model.path = config_folder(config);
    job.train.context = Tokens(context);
    const Result<Shape> shape = job_shape(job);
    return shape ? "accepted" : shape.error().message;
  };
  EXPECT_EQ(at("gpt2", 64), "accepted");
  EXPECT_THAT(at("gpt2", 65), HasSubstr("the context of 65 tokens is longer than the model's 64 learned positions"));
  EXPECT_EQ(at("mistral", 4096), "accepted") << "attention slides";
  EXPECT_EQ(at("llama", 1 << 20), "accepted") << "rotary positions have no end";
}

}  // namespace
}  // namespace memo::model
