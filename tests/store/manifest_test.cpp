// The manifest of a checkpoint: hashes are XXH3's of what was written, strangers' manifests are refused in one line.
#include "memo/store/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "memo/base/text.h"

namespace memo::store {
namespace {

using testing::HasSubstr;

class Manifest : public testing::Test {
 protected:
  Manifest() : folder_(Path(testing::TempDir()) / ("memo-manifest-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~Manifest() override { std::filesystem::remove_all(folder_); }

  const Path folder_;
};

TEST_F(Manifest, HashesAreXxh3OfTheWholeFileHoweverItIsWritten) {
  EXPECT_EQ(write_hashed(folder_ / "empty", "")->hash, 0x2d06800538d394c2U) << "XXH3 of nothing, with seed 0";
  auto file = HashedFile::create(folder_ / "text");
  ASSERT_TRUE(file);
  for (const std::string_view part : {"Planned ", "memory", ""})
    ASSERT_TRUE(file->write(std::as_bytes(std::span(part))));
  const auto sum = file->close();
  ASSERT_TRUE(sum);
  EXPECT_EQ(sum->name, "text");
  EXPECT_EQ(sum->bytes, 14);
  EXPECT_EQ(sum->hash, XXH3_64bits("Planned memory", 14));
  EXPECT_EQ(*read_text(folder_ / "text"), "Planned memory");
}

TEST_F(Manifest, AFileThatIsNotClosedIsRemoved) {
  { ASSERT_TRUE(HashedFile::create(folder_ / "half")); }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(Manifest, ReturnsAsItWasWritten) {
  const std::vector<FileSum> files{*write_hashed(folder_ / "a", "text"), {"b", 0, ~std::uint64_t{0}}};
  ASSERT_TRUE(write_manifest(folder_, files));
  EXPECT_EQ(*read_manifest(folder_), files);
}

TEST_F(Manifest, OtherSizesAndBytesAreNamed) {
  ASSERT_TRUE(write_manifest(folder_, {*write_hashed(folder_ / "a", "text")}));
  ASSERT_TRUE(verify_files(folder_));
  ASSERT_TRUE(write_atomically(folder_ / "a", "tExt"));
  EXPECT_TRUE(check_files(folder_));
  EXPECT_THAT(verify_files(folder_).error().message, AllOf(HasSubstr("/a: "), HasSubstr("not what was written")));
  ASSERT_TRUE(write_atomically(folder_ / "a", "text and more"));
  EXPECT_THAT(check_files(folder_).error().message, HasSubstr("has 13 bytes, 4 were written"));
  std::filesystem::remove(folder_ / "a");
  EXPECT_FALSE(check_files(folder_));
}

TEST_F(Manifest, StrangersAreRefusedInOneLine) {
  const auto with = [](const std::string& entries) { return R"({"version":1,"files":[)" + entries + "]}"; };
  const auto entry = [](const std::string& name, const std::string& bytes, const std::string& hash) {
    return R"({"name":)" + name + R"(,"bytes":)" + bytes + R"(,"xxh3":)" + hash + "}";
  };
  const std::string hash = R"("00000000000000ff")", good = entry(R"("a")", "1", hash);
  ASSERT_TRUE(write_atomically(folder_ / "manifest.json", with(good)));
  ASSERT_TRUE(read_manifest(folder_));
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{}"), std::string(R"({"version":2,"files":[]})"),
        std::string(R"({"version":1,"files":{}})"), with("1"), with("{}"), with(good + "," + good),
        with(entry(R"("../a")", "1", hash)), with(entry(R"("/a")", "1", hash)), with(entry(R"("")", "1", hash)),
        with(entry(R"("..")", "1", hash)), with(entry(R"("a\u0000b")", "1", hash)), with(entry("1", "1", hash)),
        with(entry(R"("a")", "-1", hash)), with(entry(R"("a")", "18446744073709551615", hash)),
        with(entry(R"("a")", "1", "7")), with(entry(R"("a")", "1", R"("00000000000000FF")")),
        with(entry(R"("a")", "1", R"("ff")"))}) {
    ASSERT_TRUE(write_atomically(folder_ / "manifest.json", text));
    const auto files = read_manifest(folder_);
    ASSERT_FALSE(files) << text;
    EXPECT_THAT(files.error().message, HasSubstr("manifest.json: "));
    EXPECT_EQ(files.error().message.find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace memo::store
