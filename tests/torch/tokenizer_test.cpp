// tokenizer.json: the ids are those of the tokenizers library (tests/data/make_tokenizers.py); the rest is refused.
#include "memo/torch/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace memo::edge {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

const Path made = Path(MEMO_TEST_DATA) / "tokenizers";

class TokenizerStyles : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerStyles, IdsAreThoseOfTheLibrary) {
  const Result<Tokenizer> tokenizer = Tokenizer::read(made / GetParam() / "tokenizer.json");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const json texts = *read_json(made / "texts.json"), expected = *read_json(made / GetParam() / "ids.json");
  ASSERT_EQ(texts.size(), expected.size());
  ASSERT_GT(texts.size(), 100U);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto ids = tokenizer->encode(texts[i].get<std::string>(), "text");
    ASSERT_TRUE(ids) << ids.error().message;
    EXPECT_EQ(*ids, expected[i].get<std::vector<TokenId>>()) << texts[i];
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerStyles, testing::Values("gpt2", "llama3", "qwen", "several_splits"),
                         [](const auto& style) { return style.param; });

// A tokenizer of the 256 bytes, "he", "hel" and "<|end|>", to be changed.
class TokenizerFile : public testing::Test {
 protected:
  TokenizerFile() : file_(Path(testing::TempDir()) / ("memo-tokenizer-" + std::to_string(::getpid()) + ".json")) {
    about = *read_json(made / "gpt2" / "tokenizer.json");
    json bytes;
    for (const auto& [token, id] : about["model"]["vocab"].items())
      if (id < 256) bytes[token] = id;
    bytes["he"] = 256;
    bytes["hel"] = 257;
    about["model"]["vocab"] = bytes;
    about["model"]["merges"] = json::array({"h e", "he l"});
    about["added_tokens"] = {{{"id", 258}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}}};
  }
  ~TokenizerFile() override { std::filesystem::remove(file_); }

  Result<Tokenizer> read() {
    EXPECT_TRUE(write_atomically(file_, about.dump()));
    return Tokenizer::read(file_);
  }
  std::string refusal() {
    const Result<Tokenizer> tokenizer = read();
    if (tokenizer) return "accepted";
    EXPECT_EQ(tokenizer.error().kind, ErrorKind::bad_input);
    EXPECT_THAT(tokenizer.error().message, testing::StartsWith(file_.string() + ": "));
    EXPECT_EQ(tokenizer.error().message.find('\n'), std::string::npos);
    return tokenizer.error().message;
  }
  std::vector<TokenId> encode(const std::string& text) {
    const auto tokenizer = read();
    if (!tokenizer) return {};
    return tokenizer->encode(text, "text").value_or(std::vector<TokenId>());
  }
  TokenId byte(const std::string& character) { return about["model"]["vocab"][character].get<TokenId>(); }

  Path file_;
  json about;
};

TEST_F(TokenizerFile, MergesApplyInTheirOrder) {
  EXPECT_THAT(encode("hello"), ElementsAre(257, byte("l"), byte("o")));
  about["model"]["merges"] = json::parse(R"([["h","e"],["he","l"]])");
  EXPECT_THAT(encode("hello"), ElementsAre(257, byte("l"), byte("o")));
  about["model"]["merges"] = json::array();
  EXPECT_THAT(encode("he"), ElementsAre(byte("h"), byte("e")));
  about["model"]["ignore_merges"] = true;
  EXPECT_THAT(encode("he"), ElementsAre(256));
}

TEST_F(TokenizerFile, AddedTokensAreFoundInTextAndNoneAreAddedToIt) {
  EXPECT_THAT(encode("he<|end|>he"), ElementsAre(256, 258, 256));
  EXPECT_EQ(read()->vocab(), 259);
}

TEST_F(TokenizerFile, LongPiecesTakeNoQuadraticTime) {
  std::string text;
  for (int i = 0; i < 1'000'000; ++i) text += "he";
  EXPECT_EQ(encode(text).size(), 1'000'000U);
  EXPECT_EQ(encode(std::string(2'000'000, ' ')).size(), 2'000'000U);
}

TEST_F(TokenizerFile, NfcIsAcceptedAndTextIsTakenAsItIs) {
  const std::vector<TokenId> decomposed = encode("e\u0301");
  about["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(encode("e\u0301"), decomposed);
  about["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}};
  EXPECT_EQ(refusal(), "accepted");
}

TEST_F(TokenizerFile, WhatIsNotByteLevelBpeIsRefusedByName) {
  const json good = about;
  const auto refused = [&](const char* pointer, const json& value) {
    about = good;
    about[json::json_pointer(pointer)] = value;
    return refusal();
  };
  EXPECT_THAT(refused("/model/type", "Unigram"), HasSubstr("model 'Unigram' is not supported"));
  EXPECT_THAT(refused("/model/type", "WordPiece"), HasSubstr("model 'WordPiece' is not supported"));
  EXPECT_THAT(refused("/model/dropout", 0.1), HasSubstr("model.dropout 0.1"));
  EXPECT_THAT(refused("/model/unk_token", "<unk>"), HasSubstr("model.unk_token"));
  EXPECT_THAT(refused("/model/byte_fallback", true), HasSubstr("model.byte_fallback"));
  EXPECT_THAT(refused("/model/end_of_word_suffix", "</w>"), HasSubstr("model.end_of_word_suffix"));
  EXPECT_THAT(refused("/normalizer", {{"type", "Lowercase"}}), HasSubstr("normalizer \"Lowercase\""));
  EXPECT_THAT(refused("/pre_tokenizer", {{"type", "Metaspace"}}), HasSubstr("pre_tokenizer: 'Metaspace'"));
  EXPECT_THAT(refused("/pre_tokenizer", nullptr), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(refused("/pre_tokenizer/add_prefix_space", true), HasSubstr("'add_prefix_space'"));
  EXPECT_THAT(refused("/added_tokens/0/lstrip", true), HasSubstr("'lstrip' of the added token '<|end|>'"));
  const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const auto sequence = [&](const json& first) {
    return json{{"type", "Sequence"}, {"pretokenizers", json::array({first, bytes})}};
  };
  EXPECT_THAT(refused("/pre_tokenizer", sequence({{"type", "Digits"}})), HasSubstr("'Digits' before the end"));
  EXPECT_THAT(refused("/pre_tokenizer", sequence({{"type", "Split"}, {"behavior", "Removed"}})),
              HasSubstr("a Split with behavior 'Removed'"));
  EXPECT_THAT(refused("/pre_tokenizer",
                      sequence({{"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "\\w+"}}}})),
              HasSubstr("pattern '\\w+': '\\w' is not supported"));
}

TEST_F(TokenizerFile, DamagedFilesAreRefused) {
  const json good = about;
  const auto refused = [&](const char* pointer, const json& value) {
    about = good;
    about[json::json_pointer(pointer)] = value;
    return refusal();
  };
  EXPECT_THAT(refused("/model/merges/0", "h"), HasSubstr("merge 0, \"h\", is no pair of tokens"));
  EXPECT_THAT(refused("/model/merges/0", {"h", "e", "l"}), HasSubstr("is no pair of tokens"));
  EXPECT_THAT(refused("/model/merges/0", "l h"), HasSubstr("is no pair of tokens"));
  EXPECT_THAT(refused("/model/merges/0", 3), HasSubstr("not a tokenizer.json"));
  EXPECT_THAT(refused("/model/vocab/he", -1), HasSubstr("the id of token 'he' is -1"));
  EXPECT_THAT(refused("/model/vocab/he", 1U << 31), HasSubstr("the id of token 'he'"));
  EXPECT_THAT(refused("/model/vocab/he", "x"), HasSubstr("the id of token 'he'"));
  EXPECT_THAT(refused("/added_tokens/0/content", 3), HasSubstr("not a tokenizer.json"));
  EXPECT_THAT(refused("/added_tokens", 3), HasSubstr("not a tokenizer.json"));
  EXPECT_THAT(refused("/model", 3), HasSubstr("not a tokenizer.json"));
  EXPECT_THAT(refused("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", 3}}), HasSubstr("pre_tokenizer"));
  about = json::array();
  EXPECT_THAT(refusal(), HasSubstr("not a tokenizer.json"));
  ASSERT_TRUE(write_atomically(file_, "{"));
  EXPECT_FALSE(Tokenizer::read(file_));
}

TEST_F(TokenizerFile, TextThatIsNotUtf8IsRefusedWithItsPlace) {
  const auto ids = read()->encode("good \xff", "book.txt");
  ASSERT_FALSE(ids);
  EXPECT_THAT(ids.error().message, HasSubstr("book.txt: byte 5 is not UTF-8"));
}

TEST_F(TokenizerFile, AByteWithoutATokenIsAnErrorAtItsPlace) {
  about["model"]["vocab"].erase("z");
  const auto ids = read()->encode("a he<|end|> z", "book.txt");
  ASSERT_FALSE(ids);
  EXPECT_THAT(ids.error().message, HasSubstr("book.txt: byte 11: the tokenizer has no token for the byte 0x7a"));
}

}  // namespace
}  // namespace memo::edge
