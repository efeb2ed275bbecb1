// The table of GPUs: plausible numbers, aliases, and a user's own file with its mistakes.
#include "memo/estimate/hardware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace memo::estimate {
namespace {

using ::testing::HasSubstr;

TEST(Hardware, TheTableHasTheGpusThatItPromises) {
  for (const char* name : {"A100", "A800", "H100", "H200", "H800", "GH200", "B200", "L40S", "RTX 4090", "A10"})
    EXPECT_TRUE(find_hardware(name, hardware_table())) << name;
}

TEST(Hardware, NoKernelIsFasterThanItsGpu) {
  for (const Hardware& gpu : hardware_table()) {
    EXPECT_LE(gpu.matmul, gpu.peak) << gpu.name;
    for (const AttentionRate& rate : gpu.attention) {
      EXPECT_LE(rate.forward, gpu.peak) << gpu.name;
      EXPECT_LE(rate.backward, rate.forward) << gpu.name;
    }
    EXPECT_LE(gpu.host.write_with_read, gpu.host.write) << gpu.name;
    EXPECT_LE(gpu.host.read_with_write, gpu.host.read) << gpu.name;
    EXPECT_FALSE(gpu.source.empty()) << gpu.name;
  }
}

TEST(Hardware, AnAliasInAnyCaseIsTheSameGpu) {
  EXPECT_EQ(find_hardware("h100-80gb-sxm", hardware_table())->name, "H100");
}

TEST(Hardware, OfAnUnknownNameTheNearestIsSaid) {
  const auto found = find_hardware("A80", hardware_table());
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message, HasSubstr("did you mean 'A800'"));
}

class HardwareFile : public ::testing::Test {
 protected:
  Result<std::vector<Hardware>> read(const std::string& text) {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    const auto file = std::filesystem::path(::testing::TempDir()) / (name + ".toml");  // tests run side by side
    std::ofstream(file) << text;
    return read_hardware(file);
  }
  const std::string good =
      "[[gpu]]\nname = \"X1\"\npeak_tflops = 100\nmatmul_tflops = 80\nmemory = \"32GiB\"\nmemory_rate = 1000\nlink = "
      "100\nnetwork = 10\nhost_memory = \"1TiB\"\nhost = { write = 20, read = 20, write_with_read = 15, "
      "read_with_write = 15 }\nattention = [{ kernel = \"flash2\", forward_tflops = 60, backward_tflops = 50, half = "
      "500 }]\n";
};

TEST_F(HardwareFile, AUsersOwnGpuIsRead) {
  const auto table = read(good);
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_EQ(table->front().name, "X1");
  EXPECT_EQ(table->front().memory, Bytes(std::int64_t{32} << 30));
  EXPECT_DOUBLE_EQ(table->front().host.read.value(), 20e9);
}

TEST_F(HardwareFile, AnUnknownKeyIsRefusedWithTheNearest) {
  const auto table = read(good + "memory_rat = 3\n");
  ASSERT_FALSE(table);
  EXPECT_THAT(table.error().message, HasSubstr("did you mean 'memory_rate'"));
}

TEST_F(HardwareFile, AMissingKeyIsNamed) {
  const auto table = read("[[gpu]]\nname = \"X1\"\n");
  ASSERT_FALSE(table);
  EXPECT_THAT(table.error().message, HasSubstr("peak_tflops: expected a number above 0"));
}

TEST_F(HardwareFile, AFileWithoutGpusIsRefused) { EXPECT_FALSE(read("")); }

}  // namespace
}  // namespace memo::estimate
