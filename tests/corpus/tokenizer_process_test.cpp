// The Python beside the command: what it answers, and every way in which it does not.
#include "memo/corpus/tokenizer_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>

namespace memo::corpus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Process : public testing::Test {
 protected:
  Process() : folder_(Path(testing::TempDir()) / ("memo-process-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
    std::signal(SIGPIPE, SIG_IGN);  // as the command does: some processes end before they have read
    file("tokenizer.json", R"({"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2}, "unk_token": "?"},
                               "pre_tokenizer": {"type": "Whitespace"}})");
  }
  ~Process() override { std::filesystem::remove_all(folder_); }

  Path file(const std::string& name, const std::string& content) {
    EXPECT_TRUE(write_atomically(folder_ / name, content));
    return folder_ / name;
  }
  // A program in Python's place.
  Path program(const std::string& script) {
    const Path path = file("python3", "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(path, std::filesystem::perms(0755));
    return path;
  }
  Error refusal(const Path& python, std::int64_t end_token = -1) {
    const auto process = TokenizerProcess::start(python, folder_ / "tokenizer.json", end_token);
    if (process) return {ErrorKind::interrupted, "started"};
    EXPECT_EQ(process.error().message.find('\n'), std::string::npos);
    return process.error();
  }
  // Of one text after another.
  static std::string encode(TokenizerProcess& process, const Path& text) {
    std::string ids;
    const auto width = process.encode(text, [&](std::string_view piece) -> Status {
      ids += piece;
      return {};
    });
    if (!width) return width.error().message;
    EXPECT_EQ(*width, 2) << "of a small vocabulary";
    return ids;
  }

  const Path folder_, python_ = MEMO_PYTHON;
};

TEST_F(Process, GivesTheIdsOfOneTextAfterAnother) {
  auto process = TokenizerProcess::start(python_, folder_ / "tokenizer.json", 1);
  ASSERT_TRUE(process) << process.error().message;
  EXPECT_THAT(process->version(), testing::MatchesRegex("[0-9]+\\.[0-9].*"));
  EXPECT_EQ(encode(*process, file("a.txt", "a b  a")), std::string("\0\0\1\0\0\0", 6));
  EXPECT_EQ(encode(*process, file("empty.txt", "")), "");
  EXPECT_EQ(encode(*process, file("name with\n'a break' \xc3\xa9", "b c")), std::string("\1\0\2\0", 4));
}

TEST_F(Process, TextThatIsNotUtf8IsNamedWithItsByte) {
  const std::string million(1 << 20, 'a');  // what is decoded at a time
  for (const auto& [text, byte] :
       std::vector<std::pair<std::string, std::size_t>>{{"good \xff", 5},
                                                        {million + "\xff", 1 << 20},
                                                        {million.substr(1) + "\xe2\x82.", (1 << 20) - 1},
                                                        {"a\xe2\x82", 1}}) {
    auto process = TokenizerProcess::start(python_, folder_ / "tokenizer.json", -1);
    ASSERT_TRUE(process);
    EXPECT_EQ(
        encode(*process, file("bad.txt", text)),
        (folder_ / "bad.txt").string() + ": byte " + std::to_string(byte) + " is not UTF-8; convert the file to UTF-8");
  }
  auto process = TokenizerProcess::start(python_, folder_ / "tokenizer.json", -1);
  EXPECT_NE(encode(*process, file("good.txt", million.substr(1) + "\xe2\x82\xac")), "") << "a character of two parts";
}

TEST_F(Process, ATokenizerThatCannotBeReadIsNamed) {
  file("tokenizer.json", "{}");
  const Error error = refusal(python_, 0);
  EXPECT_EQ(error.kind, ErrorKind::bad_input);
  EXPECT_THAT(error.message, AllOf(HasSubstr("tokenizer.json: tokenizers "), HasSubstr("cannot read it")));
}

TEST_F(Process, AnEndTokenThatTheTokenizerLacksIsRefused) {
  EXPECT_EQ(refusal(python_, 2).message, "started");
  EXPECT_THAT(refusal(python_, 3).message, AllOf(HasSubstr("data.end_token"), HasSubstr("has no token 3")));
}

TEST_F(Process, APythonThatIsMissingOrLacksTheLibraryIsNamedWithTheFix) {
  EXPECT_THAT(refusal("/none/python3").message,
              AllOf(HasSubstr("/none/python3 does not start"), HasSubstr("tokenizers"), HasSubstr("*.bin")));
  const Error error = refusal(program("exec " + python_.string() + " -S \"$@\""));  // without site-packages
  EXPECT_EQ(error.kind, ErrorKind::bad_input);
  EXPECT_THAT(error.message, AllOf(HasSubstr("has no tokenizers library"), HasSubstr("-m pip install tokenizers")));
}

TEST_F(Process, HoweverItEndsItIsOneLine) {
  EXPECT_THAT(refusal(program("kill -9 $$")).message, HasSubstr("ended by signal 9"));
  EXPECT_THAT(refusal(program("exit 3")).message, HasSubstr("exit code 3"));
  EXPECT_THAT(refusal(program("echo first >&2; echo last >&2; exit 1")).message, HasSubstr("failed: last"));
  EXPECT_THAT(refusal(program("seq 200000 >&2; exit 1")).message, HasSubstr("failed: 200000"));
  auto process = TokenizerProcess::start(program("printf '1.0\\0'; exit 4"), folder_ / "tokenizer.json", -1);
  ASSERT_TRUE(process);
  EXPECT_THAT(encode(*process, "x"), HasSubstr("exit code 4"));
}

}  // namespace
}  // namespace memo::corpus
