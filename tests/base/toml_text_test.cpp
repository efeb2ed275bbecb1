// Where a TOML text has characters that it may only have in strings and comments.
#include "memo/base/toml_text.h"

#include <gtest/gtest.h>

namespace memo {
namespace {

TEST(TomlText, StringsAndCommentsMayHoldAnyCharacter) {
  for (const char* text : {"", "a = 1",
                           "\xef\xbb\xbf"
                           "a = 1",
                           "# ä\na = 1 # €", "a = 'ä'", "a = \"ä\"", "\"ä\" = 1", "a = \"\\\"ä\"", "a = 'x\\' # ä",
                           "a = '''\nä'\n'''", "a = \"\"\"\nä\"\n\\\"\"\"\"", "a = ''"})
    EXPECT_EQ(line_of_bare_non_ascii(text), std::nullopt) << text;
}

TEST(TomlText, ElsewhereTheLineIsTold) {
  EXPECT_EQ(line_of_bare_non_ascii("Ŀ"), 1);
  EXPECT_EQ(line_of_bare_non_ascii("a = 1\nä = 2"), 2);
  EXPECT_EQ(line_of_bare_non_ascii("a = 'x' ä"), 1);
  EXPECT_EQ(line_of_bare_non_ascii("a = ''' ' '' \n ''' \n ä"), 3);
  EXPECT_EQ(line_of_bare_non_ascii("a = \"\" ä"), 1);
  EXPECT_EQ(line_of_bare_non_ascii("a = 'open\nä"), 2);
  EXPECT_EQ(line_of_bare_non_ascii("a = \"x\\\\\" ä"), 1);
  EXPECT_EQ(line_of_bare_non_ascii("# x\n\n\xef\xbb\xbf"), 3) << "a mark that is not the first";
}

}  // namespace
}  // namespace memo
