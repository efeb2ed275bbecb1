// Rows of a table become setups, gain predictions, or say why not; and CSV tables themselves.
#include "memo/estimate/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace memo::estimate {
namespace {

using ::testing::HasSubstr;

Row llama() {
  return {{"model", "Llama3-8B"}, {"hidden", "4096"},  {"layers", "32"},    {"heads", "32"},
          {"kv_heads", "8"},      {"ffn", "14336"},    {"vocab", "128256"}, {"gpu", "H100-80GB-SXM"},
          {"n_gpus", "8"},        {"seq_len", "8192"}, {"dp", "8"},         {"shard", "FSDP2"},
          {"recompute", "full"},  {"micro_batch", "2"}};
}

TEST(Rows, ARowIsASetup) {
  Row row = llama();
  row["global_batch"] = "64";
  const auto read = setup_of(row, hardware_table());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->setup.degrees.data, 8);
  EXPECT_EQ(read->setup.sequences, 2);
  EXPECT_EQ(read->setup.micro_batches, 4);
  EXPECT_EQ(read->setup.shard, Shard::weights);
  EXPECT_EQ(read->setup.recompute, Recompute::full);
}

TEST(Rows, WhatCannotBeModelledIsSaidAndNotGuessed) {
  const auto refused = [](const char* column, const char* cell, const char* reason) {
    Row row = llama();
    row[column] = cell;
    const auto read = setup_of(row, hardware_table());
    ASSERT_FALSE(read) << column;
    EXPECT_THAT(read.error().message, HasSubstr(reason));
  };
  refused("ffn", "768 x 128 experts / 8 active", "mixtures of experts");
  refused("train_mode", "QLoRA 4-bit r8", "QLoRA");
  refused("gpu", "unspecified GPU", "unknown hardware");
  refused("hidden", "", "the source does not say hidden");
  refused("hidden", "4o96", "hidden is '4o96'");
  refused("tp", "3", "do not divide");
  refused("precision", "NVFP4", "4-bit");
}

TEST(Rows, ATableKeepsItsCellsAndGainsPredictions) {
  Table table;
  for (const auto& [column, cell] : llama()) table.columns.push_back(column);
  table.rows.emplace_back();
  for (const auto& [column, cell] : llama()) table.rows[0].push_back(cell);
  const Table predicted = predict_rows(table, hardware_table());
  ASSERT_EQ(predicted.rows[0].size(), predicted.columns.size());
  for (std::size_t i = 0; i < table.columns.size(); ++i) EXPECT_EQ(predicted.rows[0][i], table.rows[0][i]);
  for (const char* column : {"pred_step_time_s", "pred_tok_s_gpu", "pred_mfu_causal_pct", "pred_mem_gib"})
    EXPECT_GT(std::stod(predicted.rows[0][static_cast<std::size_t>(predicted.find(column))]), 0) << column;
}

class TableFile : public ::testing::Test {
 protected:
  Result<Table> read(const std::string& text) {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    const auto file = std::filesystem::path(::testing::TempDir()) / (name + ".csv");  // tests run side by side
    std::ofstream(file) << text;
    return read_table(file);
  }
};

TEST_F(TableFile, QuotesSurviveARoundTrip) {
  const std::string text = "a,b\n\"x, y\",\"he said \"\"no\"\"\"\n1,\n";
  const auto table = read(text);
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_EQ(table->rows[0][0], "x, y");
  EXPECT_EQ(table->rows[0][1], "he said \"no\"");
  EXPECT_EQ(format_table(*table), text);
}

TEST_F(TableFile, BrokenOnesAreRefused) {
  EXPECT_FALSE(read(""));
  EXPECT_FALSE(read("a,b\n\"x,1\n"));
  EXPECT_FALSE(read("a,b\n1,2,3\n"));
}

}  // namespace
}  // namespace memo::estimate
