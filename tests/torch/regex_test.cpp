// Patterns of tokenizers: what Oniguruma and PCRE2 read alike is run, what they do not is refused.
#include "memo/torch/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace memo::edge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  const Result<Regex> regex = Regex::compile(pattern, "test");
  if (!regex) return {regex.error().message};
  Regex::Search search(*regex, "test");
  std::vector<std::string> found;
  for (std::size_t from = 0; from < text.size();) {
    const auto match = search.next(text, from);
    if (!match || !*match) break;
    found.push_back(text.substr((*match)->begin, (*match)->end - (*match)->begin));
    from = std::max((*match)->end, from + 1);
  }
  return found;
}

std::string refusal(const std::string& pattern) {
  const Result<Regex> regex = Regex::compile(pattern, "tokenizer.json");
  if (regex) return "accepted";
  EXPECT_EQ(regex.error().kind, ErrorKind::bad_input);
  return regex.error().message;
}

TEST(RegexTest, LettersAndDigitsAreUnicodes) {
  EXPECT_THAT(matches(R"(\p{L}+|\d+)", "Straße ١٢ 日本 x7"), ElementsAre("Straße", "١٢", "日本", "x", "7"));
}

TEST(RegexTest, WhiteSpaceIsUnicodesWithoutTheMongolianVowelSeparator) {
  const std::string spaces = "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2028\u2029\u202f\u205f\u3000";
  EXPECT_THAT(matches(R"(\s+)", spaces), ElementsAre(spaces));
  EXPECT_THAT(matches(R"([\s]+)", spaces + "\u180e"), ElementsAre(spaces));
  EXPECT_THAT(matches(R"(\S+|[^\s]+)", " \u180e\u200b "), ElementsAre("\u180e\u200b"));
}

TEST(RegexTest, CaselessGroupsAndLookaheadWork) {
  EXPECT_THAT(matches(R"((?i:'ll|'s)|\s+(?!\S)|\s)", "I'LL it'S  x"), ElementsAre("'LL", " ", "'S", " ", " "));
}

TEST(RegexTest, WhatTheLibrariesReadDifferentlyIsRefusedByName) {
  EXPECT_THAT(refusal(R"([\p{L}&&[^\p{Han}]])"), HasSubstr("tokenizer.json: pattern '[\\p{L}&&[^\\p{Han}]]': '&&'"));
  EXPECT_THAT(refusal(R"([a[bc]])"), HasSubstr("'[b' is not supported"));
  EXPECT_THAT(refusal(R"([]a])"), HasSubstr("is not supported"));
  EXPECT_THAT(refusal(R"(\w+)"), HasSubstr("'\\w' is not supported"));
  EXPECT_THAT(refusal(R"(\h)"), HasSubstr("'\\h' is not supported"));
  EXPECT_THAT(refusal(R"(\p{N}{1,3}+)"), HasSubstr("'{1,3}+' is not supported"));
  EXPECT_THAT(refusal(R"(a{,3})"), HasSubstr("'{,' is not supported"));
  EXPECT_THAT(refusal(R"((?i)a|b)"), HasSubstr("'(?i' is not supported"));
  EXPECT_THAT(refusal(R"((*UTF)a)"), HasSubstr("'(*' is not supported"));
  EXPECT_EQ(refusal(R"(\p{L}++|[^\r\n\p{L}]?+|(?=a)(?!b)(?<=c)(?<!d)(?>e)(?:f)\x{41}\[\]\{)"), "accepted");
}

TEST(RegexTest, BrokenPatternsAreErrors) {
  for (const char* pattern : {"(", "[a", "\\", "\\p{", "\\p{Nonsense}", "(?", "*", "\\x{", "[\\"})
    EXPECT_THAT(refusal(pattern), HasSubstr("tokenizer.json: pattern '")) << pattern;
}

TEST(RegexTest, AHopelessSearchEndsInAnError) {
  const Result<Regex> regex = Regex::compile("(a+)+$", "test");
  ASSERT_TRUE(regex);
  Regex::Search search(*regex, "book.txt");
  const std::string text = std::string(40, 'a') + "b";
  const auto match = search.next(text, 0);
  ASSERT_FALSE(match);
  EXPECT_THAT(match.error().message, HasSubstr("book.txt: a pattern of the tokenizer gave up: match limit exceeded"));
}

TEST(RegexTest, InvalidUtf8IsFoundAtItsFirstByte) {
  for (const char* good : {"", "plain", "é", "\u0800", "\ud7ff\ue000", "\U00010000", "\U0010ffff"})
    EXPECT_EQ(invalid_utf8(good), std::nullopt) << good;
  for (const char* bad :
       {"\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xf0\x9f\x98", "\xe2\x28\xa1"})
    EXPECT_EQ(invalid_utf8(std::string("ok é ") + bad + " z"), 6U) << bad;
}

}  // namespace
}  // namespace memo::edge
