// Data of a job: the row of tokens, what is refused, and the order of samples.
#include "memo/corpus/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <set>

namespace memo::corpus {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

class DataFiles : public testing::Test {
 protected:
  DataFiles() : folder_(Path(testing::TempDir()) / ("memo-dataset-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~DataFiles() override { std::filesystem::remove_all(folder_); }

  Path file(const std::string& name, const std::string& content) {
    EXPECT_TRUE(write_atomically(folder_ / name, content));
    return folder_ / name;
  }
  // Words and their ids.
  Path tokenizer() {
    return file("tokenizer.json",
                R"({"model": {"type": "WordLevel", "vocab": {"In": 3, "the": 1, "beginning": 600, "?": 0},
                                                "unk_token": "?"}, "pre_tokenizer": {"type": "Whitespace"}})");
  }
  static std::string refusal(const job::DataSource& source, std::int64_t vocab) {
    const auto dataset = Dataset::open(source, vocab, {.python = MEMO_PYTHON});
    if (dataset) return "accepted";
    EXPECT_EQ(dataset.error().kind, ErrorKind::bad_input);
    EXPECT_EQ(dataset.error().message.find('\n'), std::string::npos);
    return dataset.error().message;
  }

  Path folder_;
};

TEST_F(DataFiles, TextIsItsBytesAndFilesFollowEachOther) {
  job::DataSource source;
  source.files = {file("a.txt", "abc"), file("b", "\xff"), file("c.txt", "de")};
  const auto dataset = Dataset::open(source, 256);
  ASSERT_TRUE(dataset) << dataset.error().message;
  EXPECT_EQ(dataset->tokens(), 6);
  EXPECT_THAT(dataset->window(0, 6), ElementsAre('a', 'b', 'c', 0xff, 'd', 'e'));
  EXPECT_THAT(dataset->window(2, 3), ElementsAre('c', 0xff, 'd'));
  EXPECT_THAT(dataset->window(5, 1), ElementsAre('e'));
  EXPECT_THAT(dataset->window(6, 0), ElementsAre());
}

TEST_F(DataFiles, SumsTellTheTokensOfEachFile) {
  const auto sums = [&](std::vector<Path> files, const std::string& bin_dtype = "uint16") {
    job::DataSource source;
    source.files = std::move(files);
    source.bin_dtype = bin_dtype;
    return Dataset::open(source, 65536)->sums();
  };
  const std::string text(300'000, 'x');
  const auto before = sums({file("a.txt", text), file("b.txt", "b")});
  ASSERT_EQ(before.size(), 2u);
  EXPECT_EQ(before[0].tokens, 300'000);
  EXPECT_EQ(sums({file("moved.txt", text), file("b.txt", "b")}), before) << "names do not matter";
  for (const std::size_t at : {0, 150'000, 262'143, 262'144, 299'999}) {
    std::string changed = text;
    changed[at] = 'y';
    const auto after = sums({file("a.txt", changed), file("b.txt", "b")});
    EXPECT_NE(after[0], before[0]) << at;
    EXPECT_EQ(after[1], before[1]);
  }
  const auto narrow = sums({file("n.bin", raw<std::uint16_t>({1, 2, 300}))});
  EXPECT_EQ(sums({file("w.bin", raw<std::uint32_t>({1, 2, 300}))}, "uint32"), narrow) << "nor how tokens are stored";
}

// Of more than is hashed, the ends and pieces between.
TEST_F(DataFiles, SumsOfLargeFilesTakePiecesOfThem) {
  const Path large = file("large.bin", "");
  std::filesystem::resize_file(large, (std::uintmax_t{1} << 29) + 2'000'000);  // sparse
  const auto sum = [&] {
    job::DataSource source;
    source.files = {large};
    return Dataset::open(source, 65536)->sums().at(0);
  };
  const Dataset::Sum zeros = sum();
  EXPECT_EQ(zeros.tokens, (std::int64_t{1} << 28) + 1'000'000);
  for (const std::int64_t at : {std::int64_t{0}, zeros.tokens / 3, zeros.tokens - 1}) {
    std::fstream(large, std::ios::in | std::ios::out | std::ios::binary).seekp(2 * at).write("\1\0", 2);
    EXPECT_NE(sum(), zeros) << at;
    std::fstream(large, std::ios::in | std::ios::out | std::ios::binary).seekp(2 * at).write("\0\0", 2);
  }
  EXPECT_EQ(sum(), zeros);
}

TEST_F(DataFiles, DocumentsEndWithTheirFileOrTheEndToken) {
  job::DataSource source;
  source.files = {file("a.txt", "ab.c"), file("b.txt", "de"), file("c.txt", "..f")};
  EXPECT_THAT(Dataset::open(source, 256)->document_starts(0, 9), ElementsAre()) << "joined";
  source.documents_apart = true;
  EXPECT_THAT(Dataset::open(source, 256)->document_starts(0, 9), ElementsAre(0, 4, 6));
  EXPECT_THAT(Dataset::open(source, 256)->document_starts(1, 3), ElementsAre(0)) << "the next begins behind the window";
  EXPECT_THAT(Dataset::open(source, 256)->document_starts(5, 4), ElementsAre(0, 1));
  source.end_token = '.';
  EXPECT_THAT(Dataset::open(source, 256)->document_starts(0, 9), ElementsAre(0, 3, 4, 6, 7, 8));
}

TEST_F(DataFiles, TokensOf16And32BitsAreRead) {
  job::DataSource source;
  source.files = {file("a.bin", raw<std::uint16_t>({1, 65535, 3})), file("b.bin", raw<std::uint16_t>({4}))};
  const auto narrow = Dataset::open(source, 65536);
  ASSERT_TRUE(narrow) << narrow.error().message;
  EXPECT_THAT(narrow->window(0, 4), ElementsAre(1, 65535, 3, 4));
  source.files = {file("c.bin", raw<std::uint32_t>({7, 151642}))};
  source.bin_dtype = "uint32";
  const auto wide = Dataset::open(source, 151643);
  ASSERT_TRUE(wide) << wide.error().message;
  EXPECT_THAT(wide->window(0, 2), ElementsAre(7, 151642));
}

TEST_F(DataFiles, TextGoesThroughTheTokenizerBesideTokensOfIt) {
  std::vector<std::string> notes;
  Tokenizing how{.python = MEMO_PYTHON, .note = [&](const std::string& line) { notes.push_back(line); }};
  job::DataSource source;
  source.files = {file("a.txt", "In the beginning"), file("b.bin", raw<std::uint16_t>({5})), file("c.txt", "the end")};
  source.tokenizer = tokenizer();
  for (const bool keep : {false, true, true}) {
    how.keep = keep;
    const auto dataset = Dataset::open(source, 1000, how);
    ASSERT_TRUE(dataset) << dataset.error().message;
    EXPECT_THAT(dataset->window(0, dataset->tokens()), ElementsAre(3, 1, 600, 5, 1, 0));
  }
  EXPECT_EQ(notes.size(), 4U) << "two texts in memory, then two that are kept, then none";
  EXPECT_THAT(notes[0], AllOf(HasSubstr("a.txt: to tokens by tokenizers "), HasSubstr("in memory only")));
  EXPECT_THAT(notes[3], AllOf(HasSubstr("c.txt: to tokens by tokenizers "), HasSubstr("in c.txt.")));
}

TEST_F(DataFiles, BytesAndTokensNeedNoPython) {
  job::DataSource source;
  source.files = {file("b.bin", raw<std::uint16_t>({5}))};
  source.tokenizer = tokenizer();
  EXPECT_TRUE(Dataset::open(source, 6, {.python = "/none/python3"})) << "beside a tokenizer too";
  source.files.push_back(file("a.txt", "In"));
  EXPECT_FALSE(Dataset::open(source, 6, {.python = "/none/python3"}));
  source.files = {folder_ / "a.txt"};
  source.tokenizer.reset();
  EXPECT_TRUE(Dataset::open(source, 256, {.python = "/none/python3"}));
}

TEST_F(DataFiles, AFileThatIsNoTextIsRefusedWithATokenizerAndWithout) {
  job::DataSource source;
  source.files = {file("a.txt", "In the"), file("b.parquet", "PAR1 PAR1")};
  EXPECT_THAT(refusal(source, 1000), HasSubstr("b.parquet: is a Parquet file"));
  source.tokenizer = tokenizer();
  EXPECT_THAT(refusal(source, 1000), HasSubstr("b.parquet: is a Parquet file"));
}

TEST_F(DataFiles, AnEndTokenThatNoTextCanHaveIsRefused) {
  job::DataSource source;
  source.files = {file("a.txt", "In the")};
  source.end_token = 255;
  EXPECT_EQ(refusal(source, 256), "accepted");
  source.end_token = 256;
  EXPECT_THAT(refusal(source, 256),
              HasSubstr("data.end_token: 256 is no token of the model, whose vocabulary has 256"));
  EXPECT_THAT(refusal(source, 1000), HasSubstr("data.end_token: 256 is no byte"));
  source.tokenizer = tokenizer();
  EXPECT_THAT(refusal(source, 1000), AllOf(HasSubstr("data.end_token: "), HasSubstr("has no token 256")));
  source.end_token = 600;
  EXPECT_EQ(refusal(source, 1000), "accepted");
  source.files = {file("b.bin", raw<std::uint16_t>({5}))};
  source.tokenizer.reset();
  EXPECT_EQ(refusal(source, 1000), "accepted") << "what *.bin files hold is their own";
}

TEST_F(DataFiles, TokensBeyondTheVocabularyAreNamedWithTheFix) {
  job::DataSource source;
  source.files = {file("good.bin", raw<std::uint16_t>({1})), file("bad.bin", raw<std::uint16_t>({1, 700, 2}))};
  EXPECT_EQ(refusal(source, 701), "accepted");
  EXPECT_THAT(refusal(source, 700), AllOf(HasSubstr("bad.bin: the token 700 does not fit"),
                                          HasSubstr("vocabulary of 700"), HasSubstr("701")));
  source.files = {file("a.txt", "az")};
  EXPECT_THAT(refusal(source, 100), AllOf(HasSubstr("a.txt: the token 122"), HasSubstr("at least 123")));
  source.tokenizer = tokenizer();
  source.files = {file("b.txt", "the beginning")};
  EXPECT_THAT(refusal(source, 600), HasSubstr("b.txt: the token 600"));
}

TEST_F(DataFiles, TheLargestTokenOfALongFileIsFound) {
  std::vector<std::uint16_t> tokens(20'000'000, 9);
  tokens[19'999'999] = 10;
  job::DataSource source;
  source.files = {file("long.bin", raw(tokens))};
  EXPECT_THAT(refusal(source, 10), HasSubstr("the token 10 "));
  EXPECT_EQ(refusal(source, 11), "accepted");
}

TEST_F(DataFiles, FilesThatCannotBeUsedAreNamed) {
  job::DataSource source;
  EXPECT_THAT(refusal(source, 256), HasSubstr("data.files: is missing"));
  source.files = {folder_ / "none.txt"};
  EXPECT_THAT(refusal(source, 256), HasSubstr("none.txt: cannot read"));
  source.files = {folder_};
  EXPECT_THAT(refusal(source, 256), HasSubstr("is not a regular file"));
  source.files = {file("empty.txt", "")};
  EXPECT_THAT(refusal(source, 256), HasSubstr("empty.txt: is empty"));
  source.files = {file("empty.bin", "")};
  EXPECT_THAT(refusal(source, 256), HasSubstr("empty.bin: is empty"));
  source.files = {file("odd.bin", "abc")};
  EXPECT_THAT(refusal(source, 256), HasSubstr("odd.bin: 3 bytes are no whole number of uint16"));
  source.files = {file("text.txt", "abc"), file("ids.bin", "ab")};
  EXPECT_THAT(refusal(source, 65536), HasSubstr("data.tokenizer"));
}

TEST_F(DataFiles, AContextBeyondTheDataIsRefused) {
  job::DataSource source;
  source.files = {file("a.txt", "0123456789")};
  const auto dataset = Dataset::open(source, 256);
  ASSERT_TRUE(dataset);
  EXPECT_TRUE(dataset->check_context(Tokens(9)));
  const Status status = dataset->check_context(Tokens(10));
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, AllOf(HasSubstr("10 tokens"), HasSubstr("needs 11"), HasSubstr("lower it to 9")));
}

// Every epoch: as many samples as fit, one context apart, each once, inside the data.
TEST(SampleStartTest, AnEpochVisitsConsecutiveSamplesOnceEach) {
  for (const auto& [context, tokens] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 2}, {7, 8}, {7, 15}, {10, 1000}, {16, 1025}, {128, 65536 + 77}, {16384, 983254}}) {
    const std::int64_t samples = (tokens - 1) / context;
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      std::set<std::int64_t> starts;
      for (std::int64_t i = 0; i < samples; ++i) starts.insert(sample_start(5, epoch * samples + i, context, tokens));
      ASSERT_EQ(static_cast<std::int64_t>(starts.size()), samples);
      EXPECT_GE(*starts.begin(), 0);
      EXPECT_LT(*starts.begin(), context);
      EXPECT_LE(*starts.rbegin() + context + 1, tokens);
      EXPECT_EQ(*starts.rbegin() - *starts.begin(), (samples - 1) * context);
      for (const std::int64_t start : starts) ASSERT_EQ((start - *starts.begin()) % context, 0);
    }
  }
}

TEST(SampleStartTest, SeedsAndEpochsHaveOrdersAndShiftsOfTheirOwn) {
  const auto epoch_of = [](std::uint64_t seed, std::int64_t epoch) {
    std::vector<std::int64_t> starts;
    for (std::int64_t i = 0; i < 100; ++i) starts.push_back(sample_start(seed, epoch * 100 + i, 100, 10'091));
    return starts;
  };
  std::set<std::vector<std::int64_t>> orders;
  std::set<std::int64_t> shifts;
  for (std::uint64_t seed = 0; seed < 10; ++seed)
    for (std::int64_t epoch = 0; epoch < 10; ++epoch) {
      orders.insert(epoch_of(seed, epoch));
      shifts.insert(epoch_of(seed, epoch).front() % 100);
    }
  EXPECT_EQ(orders.size(), 100U);
  EXPECT_GT(shifts.size(), 50U) << "of 91 possible in 100 draws";
}

// Each sample is as likely to come first as any other: chi-squared with 15 degrees of freedom, 99.99 % point 44.3.
TEST(SampleStartTest, TheFirstSampleIsUniform) {
  std::vector<int> count(16);
  for (std::uint64_t seed = 0; seed < 16'000; ++seed)
    ++count[static_cast<std::size_t>(sample_start(seed, 0, 10, 161)) / 10];
  double chi_squared = 0;
  for (const int n : count) chi_squared += (n - 1000.0) * (n - 1000.0) / 1000.0;
  EXPECT_LT(chi_squared, 44.3);
}

// A run resumed on another machine or by a later version reads the same samples: these never change.
TEST(SampleStartTest, PlacesAreFixedForever) {
  std::vector<std::int64_t> starts;
  for (std::int64_t i = 0; i < 6; ++i) starts.push_back(sample_start(1, i, 16384, 983254));
  EXPECT_THAT(starts, ElementsAre(786479, 802863, 409647, 589871, 737327, 245807));
}

}  // namespace
}  // namespace memo::corpus
