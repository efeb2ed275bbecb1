// What a job fixes before anything is measured.
#include "memo/plan/for_job.h"

#include <gtest/gtest.h>

#include <fstream>

namespace memo::plan {
namespace {

Tokens block_of(std::int64_t context, std::int64_t block) {
  job::Job job;
  job.train.context = Tokens(context);
  job.train.block = Tokens(block);
  return job_block(job);
}

// tests/python/test_attach.py reads the same table.
TEST(JobBlock, OfAutoIsThatOfOneTable) {
  std::ifstream table(MEMO_TEST_DATA "/auto_blocks.csv");
  std::string line;
  std::getline(table, line);
  int rows = 0;
  for (; std::getline(table, line); ++rows) {
    const std::int64_t context = std::stoll(line);
    EXPECT_EQ(block_of(context, 0), Tokens(std::stoll(line.substr(line.find(',') + 1)))) << context;
  }
  EXPECT_GT(rows, 10);
}

TEST(JobBlock, IsNoLongerThanTheContext) {
  EXPECT_EQ(block_of(1000, 100), Tokens(100));
  EXPECT_EQ(block_of(1000, 4096), Tokens(1000));
}

}  // namespace
}  // namespace memo::plan
