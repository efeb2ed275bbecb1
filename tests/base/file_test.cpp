// Files as values: whole, atomic, and errors that name the file.
#include "memo/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace memo {
namespace {

using testing::HasSubstr;

class Files : public testing::Test {
 protected:
  Files() : folder_(Path(testing::TempDir()) / ("memo-file-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~Files() override { std::filesystem::remove_all(folder_); }
  Path folder_;
};

TEST_F(Files, WhatIsWrittenIsReadAndNothingElseIsLeft) {
  const Path file = folder_ / "a.txt";
  for (const std::string& text : {std::string("first"), std::string(), std::string("\0binary\n", 8)}) {
    ASSERT_TRUE(write_atomically(file, text));
    EXPECT_EQ(*read_text(file), text);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(Files, AFailedWriteLeavesTheOldText) {
  const Path file = folder_ / "a.txt";
  ASSERT_TRUE(write_atomically(file, "old"));
  std::filesystem::create_directory(folder_ / "a.txt.partial");  // stands in the way of the new text
  const Status status = write_atomically(file, "new");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::run_time);
  EXPECT_THAT(status.error().message, HasSubstr("a.txt.partial: cannot write: "));
  EXPECT_EQ(*read_text(file), "old");
}

TEST_F(Files, WhatCannotBeReadIsNamed) {
  EXPECT_THAT(read_text(folder_ / "none").error().message, HasSubstr("none: cannot read: No such file"));
  EXPECT_THAT(read_text(folder_).error().message, HasSubstr("is a folder, not a file"));
  ASSERT_TRUE(write_atomically(folder_ / "bad.json", "{\"a\": }"));
  EXPECT_THAT(read_json(folder_ / "bad.json").error().message, HasSubstr("bad.json: not JSON: "));
  ASSERT_TRUE(write_atomically(folder_ / "bad.json", "version https://git-lfs.github.com/spec/v1\n"));
  EXPECT_THAT(read_json(folder_ / "bad.json").error().message, HasSubstr("bad.json: is a Git LFS pointer"));
  std::filesystem::create_symlink("gone", folder_ / "link");
  EXPECT_THAT(read_text(folder_ / "link").error().message, HasSubstr("link: is a link to gone, which is not there"));
}

TEST_F(Files, FoldersAreMadeWithTheirParents) {
  EXPECT_TRUE(make_folder(folder_ / "a/b/c"));
  EXPECT_TRUE(make_folder(folder_ / "a/b/c")) << "again";
  ASSERT_TRUE(write_atomically(folder_ / "file", ""));
  EXPECT_THAT(make_folder(folder_ / "file/below").error().message, HasSubstr("cannot create the folder: "));
}

TEST(JsonField, NamesFileKeyAndWhatWasFound) {
  const nlohmann::json object{{"n", 3}, {"s", "x"}, {"b", true}};
  EXPECT_EQ(*json_field<std::int64_t>(object, "n", "f.json"), 3);
  EXPECT_EQ(*json_field<std::string>(object, "s", "f.json"), "x");
  EXPECT_EQ(json_field<std::string>(object, "none", "f.json").error().message, "f.json: 'none' is missing");
  for (const nlohmann::json& value : {nlohmann::json(2e37), nlohmann::json(1.5), nlohmann::json(~std::uint64_t{0})})
    EXPECT_FALSE(json_field<std::int64_t>({{"n", value}}, "n", "f.json")) << value;
  EXPECT_FALSE(json_field<int>({{"n", std::int64_t{1} << 40}}, "n", "f.json"));
  EXPECT_EQ(json_field<double>(object, "s", "f.json").error().message, "f.json: 's' has the wrong type (string)");
  EXPECT_EQ(json_field<bool>(nlohmann::json::array(), "b", "f.json").error().message, "f.json: 'b' is missing");
}

}  // namespace
}  // namespace memo
