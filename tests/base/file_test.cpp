// Files as values: whole, atomic, and errors that name the file.
#include "memo/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/base/file_size_limit.h"

namespace memo {
namespace {

using testing::HasSubstr;

class Files : public testing::Test {
 protected:
  Files() : folder_(Path(testing::TempDir()) / ("memo-file-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~Files() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) names.push_back(entry.path().filename());
    return names;
  }
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

TEST_F(Files, AFailedWriteLeavesTheOldTextAndNothingElse) {
  const Path file = folder_ / "a.txt";
  ASSERT_TRUE(write_atomically(file, "old"));
  const Status status = [&] {
    const FileSizeLimit limit(2);
    return write_atomically(file, "new");
  }();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::run_time);
  EXPECT_THAT(status.error().message, HasSubstr("a.txt: cannot write: File too large"));
  EXPECT_EQ(*read_text(file), "old");
  EXPECT_EQ(names(), std::vector<std::string>{"a.txt"});
}

// Whatever a user calls his files, a temporary one is none of them.
TEST_F(Files, TemporaryNamesAreNobodysElse) {
  const std::string taken = ".memo-" + std::to_string(::getpid()) + "-0";
  for (const std::string& name : {std::string("a.txt.partial"), taken}) std::ofstream(folder_ / name) << "mine";
  ASSERT_TRUE(write_atomically(folder_ / "a.txt", "new"));
  for (const std::string& name : {std::string("a.txt.partial"), taken}) EXPECT_EQ(*read_text(folder_ / name), "mine");
  EXPECT_EQ(names().size(), 3u);
}

TEST_F(Files, ALinkStaysALinkToWhatIsWritten) {
  std::filesystem::create_directory(folder_ / "other");
  ASSERT_TRUE(write_atomically(folder_ / "other/a.txt", "old"));
  std::filesystem::create_symlink("other/a.txt", folder_ / "link");
  ASSERT_TRUE(write_atomically(folder_ / "link", "new"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "link"));
  EXPECT_EQ(*read_text(folder_ / "other/a.txt"), "new");
  std::filesystem::create_symlink("nowhere", folder_ / "dangling");
  EXPECT_THAT(write_atomically(folder_ / "dangling", "new").error().message,
              HasSubstr("dangling is a symbolic link to nowhere, which is not there"));
}

TEST_F(Files, AFileOfAnotherKindIsNotReplaced) {
  constexpr FileKind plan{"a plan", "{\"plan\"", "end"};
  const Path file = folder_ / "plan.json";
  ASSERT_TRUE(replace_file(file, "{\"plan\":1,\"end\"}", plan));
  ASSERT_TRUE(replace_file(file, "{\"plan\":2,\"end\"}", plan)) << "one of the kind";
  EXPECT_EQ(*read_text(file), "{\"plan\":2,\"end\"}");
  ASSERT_TRUE(write_atomically(file, ""));
  ASSERT_TRUE(replace_file(file, "{\"plan\":3,\"end\"}", plan)) << "an empty one, as mktemp makes";
  for (const char* other : {"seed = 1\n", " ", "{\"plan\"", "{\"profile\",\"end\"}"}) {
    ASSERT_TRUE(write_atomically(file, other));
    for (const Status& refused : {check_replaceable(file, plan), replace_file(file, "{\"plan\":4,\"end\"}", plan)}) {
      ASSERT_FALSE(refused) << other;
      EXPECT_EQ(refused.error().kind, ErrorKind::bad_input);
      EXPECT_THAT(refused.error().message, HasSubstr("plan.json: is there already and is not a plan that memo wrote"));
    }
    EXPECT_EQ(*read_text(file), other);
  }
  EXPECT_THAT(check_replaceable(folder_, plan).error().message, HasSubstr("is not a file that can be replaced"));
  EXPECT_TRUE(check_replaceable(folder_ / "new.json", plan));
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

// The same is said before anything is made, and nothing is made.
TEST_F(Files, WhatIsInTheWayOfAFolderIsNamed) {
  ASSERT_TRUE(write_atomically(folder_ / "file", ""));
  std::filesystem::create_symlink("nowhere", folder_ / "dangling");
  const auto refusal = [](const Path& path) {
    const Status said = check_folder(path), made = make_folder(path);
    EXPECT_FALSE(said || made) << path;
    EXPECT_EQ(said.error().message, made.error().message);
    EXPECT_EQ(said.error().kind, ErrorKind::run_time);
    return said.error().message;
  };
  for (const Path& path : {folder_ / "file", folder_ / "file/below"})
    EXPECT_THAT(refusal(path), HasSubstr((folder_ / "file").string() + " is there and is no folder"));
  for (const Path& path : {folder_ / "dangling", folder_ / "dangling/below"})
    EXPECT_THAT(refusal(path), HasSubstr("dangling is a symbolic link to nowhere, which is not there"));
  std::filesystem::create_directory_symlink(folder_, folder_ / "link");
  for (const char* name : {"new", "new/below", "link", "link/new", "with space", "with\nnewline"})
    EXPECT_TRUE(check_folder(folder_ / name)) << name;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new"));
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
