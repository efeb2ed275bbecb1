// What is given as text and is none: told by its name or by its bytes.
#include "memo/corpus/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace memo::corpus {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

// "" when it is accepted.
std::string refusal(const std::string& name, const std::string& content) {
  const Path folder = Path(testing::TempDir()) / ("memo-text-" + std::to_string(::getpid())), file = folder / name;
  std::filesystem::create_directories(folder);
  EXPECT_TRUE(write_atomically(file, content));
  const Status status = check_text_file(file);
  std::filesystem::remove_all(folder);
  if (status) return "";
  EXPECT_EQ(status.error().kind, ErrorKind::bad_input);
  EXPECT_THAT(status.error().message, testing::StartsWith(file.string() + ": is a "));
  return status.error().message;
}

TEST(TextFileTest, FormatsAreToldByTheirBytesWhateverTheirName) {
  const std::string more(100, 'x');
  for (const auto& [bytes, name] : std::vector<std::pair<std::string, std::string>>{
           {"\x1f\x8b\x08\0\0"s, "gzip"},
           {"BZh91AY&SY"s, "bzip2"},
           {"\xfd"
            "7zXZ\0"s,
            "xz"},
           {"\x28\xb5\x2f\xfd"s, "Zstandard"},
           {"\x04\x22\x4d\x18"s, "LZ4"},
           {"PK\x03\x04"s, "zip"},
           {"7z\xbc\xaf\x27\x1c"s, "7-Zip"},
           {"ARROW1\0\0"s, "Arrow"},
           {"%PDF-1.7\n"s, "PDF"},
           {"\x93NUMPY\1\0"s, "NumPy"},
           {"version https://git-lfs.github.com/spec/v1\n"s, "Git LFS pointer"},
           {"memo-tokens 1\n"s, "Memo tokens"}})
    EXPECT_THAT(refusal("book.txt", bytes + more), HasSubstr("is a " + name + " file, no text; ")) << name;
  EXPECT_THAT(refusal("book.txt", "PAR1" + more + "PAR1"), HasSubstr("is a Parquet file, no text; write its text"));
}

TEST(TextFileTest, FormatsAreToldByTheirName) {
  for (const char* name : {"a.gz", "a.tgz", "a.bz2", "a.xz", "a.zst", "a.lz4", "a.zip", "a.npz", "a.7z", "a.tar",
                           "a.parquet", "a.arrow", "a.feather", "a.pdf", "a.npy", "book.txt.GZ"})
    EXPECT_THAT(refusal(name, "what is in it does not matter"), HasSubstr(" by its name, no text; ")) << name;
}

TEST(TextFileTest, TextThatOnlyBeginsAlikeIsText) {
  for (const char* text : {"", "x", "PAR1 begins", "BZh and more", "PK", "7zip is a program",
                           "version https://example.org", "ARROW1 of 2", "memo-tokens 2"})
    EXPECT_EQ(refusal("book.txt", text), "") << text;
  for (const char* name : {"book", "book.jsonl", "book.gz.txt", ".txt"}) EXPECT_EQ(refusal(name, "text"), "") << name;
}

}  // namespace
}  // namespace memo::corpus
