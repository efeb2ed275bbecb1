// Event files: records, their lengths and checksums. tests/cli/test_tensorboard.py reads such files with TensorBoard
// itself.
#include "memo/report/event_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace memo::report {
namespace {

std::string bytes_of(const Path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Path only_file(const Path& folder) { return std::filesystem::directory_iterator(folder)->path(); }

TEST(EventFile, BeginsWithItsVersionAndEachRecordSaysItsLength) {
  const Path folder = Path(testing::TempDir()) / "event_file_test";
  std::filesystem::remove_all(folder);
  auto file = EventFile::create(folder, 1.5);
  ASSERT_TRUE(file.has_value());
  const std::vector<Scalar> scalars{{"loss", 2.5}};
  ASSERT_TRUE(file->add(7, 2.5, scalars).has_value());
  const std::string bytes = bytes_of(only_file(folder));
  // Length 24, then the CRC of that length as TensorFlow writes it at the start of every such file.
  EXPECT_EQ(bytes.substr(0, 12), std::string("\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22", 12));
  EXPECT_NE(bytes.find("brain.Event:2"), std::string::npos);
  const std::size_t second = 8 + 4 + 24 + 4;
  const auto length = static_cast<unsigned char>(bytes[second]);
  EXPECT_EQ(bytes.size(), second + 8 + 4 + length + 4);
  EXPECT_NE(bytes.find("loss", second), std::string::npos);
}

TEST(EventFile, AFolderThatCannotBeMadeIsSaid) {
  const Path file = Path(testing::TempDir()) / "event_file_test_is_a_file";
  std::ofstream(file) << "x";
  const auto refused = EventFile::create(file / "logs", 0);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("event_file_test_is_a_file"), std::string::npos);
}

}  // namespace
}  // namespace memo::report
