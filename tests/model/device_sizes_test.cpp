// Which sizes suit which device, and which block is the best by given times.
#include "memo/model/device_sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace memo::model {
namespace {

using testing::ElementsAre;

// tests/python/test_attach.py reads the same table.
TEST(DeviceSizes, ACpuHasOneBlockByTheContext) {
  std::ifstream table(MEMO_TEST_DATA "/auto_blocks.csv");
  std::string line;
  std::getline(table, line);
  int rows = 0;
  for (; std::getline(table, line); ++rows) {
    const std::int64_t context = std::stoll(line);
    EXPECT_THAT(DeviceSizes().blocks(Tokens(context)), ElementsAre(Tokens(std::stoll(line.substr(line.find(',') + 1)))))
        << context;
  }
  EXPECT_GT(rows, 10);
}

TEST(DeviceSizes, AGpuHasAChoiceOfBlocksUpToAQuarterOfTheContext) {
  const DeviceSizes gpu{.gpu = true};
  EXPECT_THAT(gpu.blocks(Tokens(1 << 20)), ElementsAre(Tokens(1024), Tokens(2048), Tokens(4096), Tokens(8192)));
  EXPECT_THAT(gpu.blocks(Tokens(32768)), ElementsAre(Tokens(1024), Tokens(2048), Tokens(4096), Tokens(8192)));
  EXPECT_THAT(gpu.blocks(Tokens(32767)), ElementsAre(Tokens(1024), Tokens(2048), Tokens(4096)));
  EXPECT_THAT(gpu.blocks(Tokens(8192)), ElementsAre(Tokens(1024), Tokens(2048)));
  for (const std::int64_t context : {1, 63, 100, 1000, 4096, 8191})
    EXPECT_EQ(gpu.blocks(Tokens(context)), DeviceSizes().blocks(Tokens(context))) << context;
}

TEST(DeviceSizes, HeadGroupsLeaveEachThreadAQueryHead) {
  EXPECT_EQ((DeviceSizes{.threads = 1}.groups(4, 2)), 2);
  EXPECT_EQ((DeviceSizes{.threads = 2}.groups(4, 2)), 2);
  EXPECT_EQ((DeviceSizes{.threads = 4}.groups(4, 2)), 1);
  EXPECT_EQ((DeviceSizes{.threads = 2}.groups(12, 6)), 6);
  EXPECT_EQ((DeviceSizes{.threads = 5}.groups(12, 6)), 2);
  EXPECT_EQ((DeviceSizes{.gpu = true, .threads = 2}.groups(32, 8)), 1);
}

TEST(DeviceSizes, ALossTileIsSmallOnACpuAndABlockOnAGpu) {
  const Bytes small(256 * 4), large(151936 * 2);
  EXPECT_EQ(DeviceSizes().loss_tile(Tokens(1024), small), Tokens(8192));
  EXPECT_EQ(DeviceSizes().loss_tile(Tokens(1024), large), Tokens(64));
  EXPECT_EQ((DeviceSizes{.gpu = true}.loss_tile(Tokens(4096), large)), Tokens(4096));
}

Tokens best(const std::vector<double>& nanoseconds) {
  std::vector<BlockTime> measured;
  for (std::size_t i = 0; i < nanoseconds.size(); ++i)
    measured.push_back({Tokens(std::int64_t{1024} << i), Seconds(nanoseconds[i] * 1e-9)});
  return best_block(measured);
}

TEST(BestBlock, IsTheSmallestThatIsAlmostAsFastAsTheFastest) {
  EXPECT_EQ(best({3000, 2400, 2050, 2000}), Tokens(4096));
  EXPECT_EQ(best({3000, 2400, 2070, 2000}), Tokens(8192));
  EXPECT_EQ(best({2000, 2400, 2070, 2001}), Tokens(1024));
  EXPECT_EQ(best({2100, 2000, 2030, 2200}), Tokens(2048)) << "larger ones may be slower";
  EXPECT_EQ(best({2000}), Tokens(1024));
}

}  // namespace
}  // namespace memo::model
