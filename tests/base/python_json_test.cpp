// What Python's json module writes is read, and written so that it reads the same.
#include "memo/base/python_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace memo {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(PythonJson, NumbersThatJsonLacksAreRead) {
  const json value = *parse_python_json(R"({"a":[Infinity,-Infinity,NaN],"b":-1.5,"c":null})", "f.json");
  EXPECT_EQ(value["a"][0].get<double>(), INFINITY);
  EXPECT_EQ(value["a"][1].get<double>(), -INFINITY);
  EXPECT_TRUE(std::isnan(value["a"][2].get<double>()));
  EXPECT_EQ(value["b"], -1.5);
  EXPECT_TRUE(value["c"].is_null());
}

TEST(PythonJson, StringsAreLeftAlone) {
  const std::string text = R"({"NaN":"Infinity","a":"\"NaN, \\","b":"x: -Infinity"})";
  EXPECT_EQ(*parse_python_json(text, "f.json"), json::parse(text));
}

TEST(PythonJson, WhatIsWrittenReadsTheSame) {
  const std::string text = R"({
  "a": [
    Infinity,
    -Infinity,
    NaN
  ],
  "b": "NaN",
  "c": 1e-06
})";
  EXPECT_EQ(python_json_text(*parse_python_json(text, "f.json")), text);
  const json finite = json::parse(R"({"a":[1,2.5,"Infinity"],"b":{}})");
  EXPECT_EQ(python_json_text(finite), finite.dump(2));
}

TEST(PythonJson, OtherTextIsRefusedWithTheFilesName) {
  for (const char* text : {"{", "[Infinit]", "[NaNs]", "[+Infinity]", "[1 2]", "{\"a\": \"NaN}"})
    EXPECT_THAT(parse_python_json(text, "f.json").error().message, HasSubstr("f.json: not JSON: ")) << text;
  EXPECT_THAT(parse_python_json("", "f.json").error().message, HasSubstr("f.json: is empty"));
  EXPECT_THAT(parse_python_json("<html>", "f.json").error().message, HasSubstr("f.json: is a web page"));
  EXPECT_FALSE(parse_python_json(std::string(200'000, '['), "f.json"));
  EXPECT_TRUE(parse_python_json(std::string(200'000, '[') + "NaN" + std::string(200'000, ']'), "f.json"));
}

}  // namespace
}  // namespace memo
