// Where a TOML text has characters that it may only have in strings and comments.
#include "memo/base/toml_text.h"

#include <gtest/gtest.h>

#include <string_view>

namespace memo {
namespace {

std::optional<std::int64_t> line_of_stray_character(std::string_view toml) {
  const auto stray = stray_character(toml);
  return stray ? std::optional(stray->line) : std::nullopt;
}

TEST(TomlText, StringsAndCommentsMayHoldAnyCharacter) {
  for (const char* text : {"", "a = 1",
                           "\xef\xbb\xbf"
                           "a = 1",
                           "# ä\na = 1 # €", "a = 'ä'", "a = \"ä\"", "\"ä\" = 1", "a = \"\\\"ä\"", "a = 'x\\' # ä",
                           "a = '''\nä'\n'''", "a = \"\"\"\nä\"\n\\\"\"\"\"", "a = ''"})
    EXPECT_EQ(line_of_stray_character(text), std::nullopt) << text;
}

TEST(TomlText, ElsewhereTheLineIsTold) {
  EXPECT_EQ(line_of_stray_character("Ŀ"), 1);
  EXPECT_EQ(line_of_stray_character("a = 1\nä = 2"), 2);
  EXPECT_EQ(line_of_stray_character("a = 'x' ä"), 1);
  EXPECT_EQ(line_of_stray_character("a = ''' ' '' \n ''' \n ä"), 3);
  EXPECT_EQ(line_of_stray_character("a = \"\" ä"), 1);
  EXPECT_EQ(line_of_stray_character("a = 'open\nä"), 2);
  EXPECT_EQ(line_of_stray_character("a = \"x\\\\\" ä"), 1);
  EXPECT_EQ(line_of_stray_character("# x\n\n\xef\xbb\xbf"), 3) << "a mark that is not the first";
}

TEST(TomlText, ControlCharactersAreNowhere) {
  using std::string_view_literals::operator""sv;
  EXPECT_EQ(line_of_stray_character("seed = 1\n[\t\0\0"sv), 2);
  EXPECT_EQ(line_of_stray_character("a = '\x01'"), 1);
  EXPECT_EQ(line_of_stray_character("# \x7f"), 1);
  EXPECT_EQ(line_of_stray_character("a\t= 1\r\n"), std::nullopt);
}

TEST(TomlText, ATablesNameBeginsAsNamesDo) {
  for (const char* text : {"[a]", " [ a ]", "[[a]]", "[\"a\"]\n['b']", "[-]", "[]", "[",
                           "a = [\n  [-1],\n  [{x = 1}],\n  [+2]]", "a = [+1]"})
    EXPECT_EQ(line_of_stray_character(text), std::nullopt) << text;
  for (const char* text :
       {"[,", "\n[ =]", "a = [1]\n  [+a]", "x = 1\r\n[[ {a}]]", "\n[#]", "\n[[[a]]]", "#\n[ [a]]", "a = ']'\n[.a]"})
    EXPECT_NE(line_of_stray_character(text), std::nullopt) << text;
  EXPECT_EQ(line_of_stray_character("seed = 2\n[, mistral"), 2);
}

}  // namespace
}  // namespace memo
