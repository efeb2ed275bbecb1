// JSON as text: what is no UTF-8 is replaced and not thrown at the user, and what is no JSON says so.
#include "memo/base/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace memo {
namespace {

TEST(JsonText, IsReadAsItWasWritten) {
  const nlohmann::ordered_json value{{"b", {1, 2.5, nullptr}}, {"a", "ä\n\""}};
  EXPECT_EQ(json_text(value), "{\"b\":[1,2.5,null],\"a\":\"ä\\n\\\"\"}");
  EXPECT_EQ(ascii_json_text(value), R"({"b":[1,2.5,null],"a":"\u00e4\n\""})");
  EXPECT_EQ(ordered_json_of(json_text(value)), value);
  EXPECT_EQ(ordered_json_of(json_text(value, 2)), value);
  EXPECT_EQ(json_of(ascii_json_text(value)), nlohmann::json(value));
}

TEST(JsonText, ReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(json_text(nlohmann::json("a\xff.txt")), "\"a\xEF\xBF\xBD.txt\"");
  EXPECT_EQ(ascii_json_text(nlohmann::json("a\xff.txt")), R"("a\ufffd.txt")");
}

TEST(JsonText, IsDiscardedWhereItIsNotJson) {
  EXPECT_TRUE(json_of("{\"a\":").is_discarded());
  EXPECT_TRUE(ordered_json_of("").is_discarded());
}

}  // namespace
}  // namespace memo
