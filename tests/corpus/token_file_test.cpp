// Ids beside their text: found again by what they were made of, whole or not at all.
#include "memo/corpus/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace memo::corpus {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

constexpr TokenOrigin origin{{1, 2}, {3, 4}};
constexpr std::array<std::uint16_t, 5> ids{7, 8, 65535, 0, 9};
const std::string_view raw_ids(reinterpret_cast<const char*>(ids.data()), sizeof ids);

std::vector<int> values(const TokenIds& tokens) {
  const auto* first = reinterpret_cast<const std::uint16_t*>(tokens.memory.bytes().data() + tokens.offset);
  return {first, first + tokens.tokens};
}

class TokenFile : public testing::Test {
 protected:
  TokenFile() : folder_(Path(testing::TempDir()) / ("memo-tokens-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
    EXPECT_TRUE(write_atomically(text_, "some text"));
  }
  ~TokenFile() override { std::filesystem::remove_all(folder_); }

  Result<TokenIds> write(const std::optional<Path>& keep, const TokenOrigin& of = origin) {
    MEMO_TRY(TokenWriter writer, TokenWriter::create(keep, text_));
    MEMO_CHECKED(writer.write(raw_ids.substr(0, 4)));
    MEMO_CHECKED(writer.write(raw_ids.substr(4)));
    return writer.finish(of, 2);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) found.push_back(entry.path().filename());
    return found;
  }

  const Path folder_, text_ = folder_ / "book.txt", kept_ = token_file_of(text_, origin.tokenizer);
};

TEST_F(TokenFile, IsFoundByWhatItWasMadeOf) {
  EXPECT_EQ(kept_.filename(), "book.txt.0000000000000003.tokens");
  EXPECT_FALSE(read_tokens(kept_, origin)) << "there is none yet";
  const auto written = write(kept_);
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_THAT(values(*written), ElementsAre(7, 8, 65535, 0, 9));
  const auto found = read_tokens(kept_, origin);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->width, 2);
  EXPECT_THAT(values(*found), ElementsAre(7, 8, 65535, 0, 9));
  EXPECT_FALSE(read_tokens(kept_, {{1, 5}, {3, 4}})) << "of another text";
  EXPECT_FALSE(read_tokens(kept_, {{1, 2}, {3, 5}})) << "of another tokenizer";
}

TEST_F(TokenFile, ANewTextTakesTheNameOfTheOld) {
  ASSERT_TRUE(write(kept_, {{9, 9}, {3, 4}}));
  const auto old = read_tokens(kept_, {{9, 9}, {3, 4}});
  ASSERT_TRUE(write(kept_));
  EXPECT_TRUE(read_tokens(kept_, origin));
  EXPECT_THAT(values(*old), ElementsAre(7, 8, 65535, 0, 9)) << "who reads the old one goes on";
  EXPECT_THAT(names(), UnorderedElementsAre("book.txt", kept_.filename()));
}

TEST_F(TokenFile, AnyDamageIsSeen) {
  ASSERT_TRUE(write(kept_));
  const std::string good = *read_text(kept_);
  ASSERT_EQ(good.size(), 72 + sizeof ids);
  for (std::size_t byte = 0; byte < good.size(); ++byte) {
    std::string bad = good;
    bad[byte] ^= 1;
    ASSERT_TRUE(write_atomically(kept_, bad));
    EXPECT_FALSE(read_tokens(kept_, origin)) << byte;
    ASSERT_TRUE(write_atomically(kept_, good.substr(0, byte)));
    EXPECT_FALSE(read_tokens(kept_, origin)) << byte;
    EXPECT_FALSE(is_external(kept_)) << "the rest of a file of Memo's may be written again";
  }
  ASSERT_TRUE(write_atomically(kept_, good + "x"));
  EXPECT_FALSE(read_tokens(kept_, origin));
}

TEST_F(TokenFile, WhatMemoDidNotWriteIsForeign) {
  EXPECT_FALSE(is_external(kept_)) << "nothing is there";
  ASSERT_TRUE(write_atomically(kept_, "the user's own"));
  EXPECT_TRUE(is_external(kept_));
  std::filesystem::remove(kept_);
  std::filesystem::create_directory(kept_);
  EXPECT_TRUE(is_external(kept_)) << "a folder";
  std::filesystem::remove(kept_);
  std::filesystem::create_symlink("elsewhere", kept_);
  EXPECT_TRUE(is_external(kept_)) << "a link, wherever it leads";
}

TEST_F(TokenFile, WhoMayNotReadTheTextMayNotReadItsTokens) {
  const auto mode = [&] {
    struct stat about {};
    EXPECT_EQ(::stat(kept_.c_str(), &about), 0);
    return about.st_mode & 0777;
  };
  ::umask(0022);
  std::filesystem::permissions(text_, std::filesystem::perms(0644));
  ASSERT_TRUE(write(kept_));
  EXPECT_EQ(mode(), 0644U);
  std::filesystem::permissions(text_, std::filesystem::perms(0640));
  ASSERT_TRUE(write(kept_));
  EXPECT_EQ(mode(), 0600U);
}

TEST_F(TokenFile, BeforeItIsWholeItHasNoName) {
  auto writer = TokenWriter::create(kept_, text_);
  ASSERT_TRUE(writer);
  EXPECT_TRUE(writer->keeps());
  ASSERT_TRUE(writer->write(raw_ids));
  EXPECT_THAT(names(), UnorderedElementsAre("book.txt"));
}

TEST_F(TokenFile, InMemoryNothingIsLeft) {
  const auto tokens = write(std::nullopt);
  ASSERT_TRUE(tokens) << tokens.error().message;
  EXPECT_THAT(values(*tokens), ElementsAre(7, 8, 65535, 0, 9));
  EXPECT_THAT(names(), UnorderedElementsAre("book.txt"));
}

TEST_F(TokenFile, WhereNoneCanBeWrittenTokensStayInMemory) {
  for (const Path& nowhere : {folder_ / "none" / "x.tokens", folder_ / (std::string(250, 'x') + ".tokens")}) {
    const auto tokens = write(nowhere);
    ASSERT_TRUE(tokens) << tokens.error().message;
    EXPECT_THAT(values(*tokens), ElementsAre(7, 8, 65535, 0, 9));
    EXPECT_THAT(names(), UnorderedElementsAre("book.txt"));
  }
}

}  // namespace
}  // namespace memo::corpus
