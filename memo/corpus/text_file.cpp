// Known formats by ending and signature, and a test for text.
#include "memo/corpus/text_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "memo/base/input_file.h"
#include "memo/base/text.h"

namespace memo::corpus {
namespace {

using namespace std::string_view_literals;

struct Format {
  std::string_view name;
  std::vector<std::string_view> endings;  // endings of a file's name
  std::string_view begin;                 // first bytes of the file; empty: recognised by name alone
  std::string_view end;                   // and last bytes
  std::string_view advice;
};

constexpr std::string_view unpack = "unpack it, and name the text";
constexpr std::string_view export_text = "write its text to a *.txt file, and name that";

const std::vector<Format>& formats() {
  static const std::vector<Format> known{
      {"gzip", {".gz", ".tgz"}, "\x1f\x8b\x08"sv, "", unpack},
      {"bzip2", {".bz2"}, "BZh91AY&SY"sv, "", unpack},
      {"xz",
       {".xz"},
       "\xfd"
       "7zXZ\0"sv,
       "",
       unpack},
      {"Zstandard", {".zst", ".zstd"}, "\x28\xb5\x2f\xfd"sv, "", unpack},
      {"LZ4", {".lz4"}, "\x04\x22\x4d\x18"sv, "", unpack},
      {"zip", {".zip", ".npz"}, "PK\x03\x04"sv, "", unpack},
      {"7-Zip", {".7z"}, "7z\xbc\xaf\x27\x1c"sv, "", unpack},
      {"tar", {".tar"}, "", "", unpack},
      {"Parquet", {".parquet"}, "PAR1"sv, "PAR1"sv, export_text},
      {"Arrow", {".arrow", ".feather"}, "ARROW1\0\0"sv, "", export_text},
      {"PDF", {".pdf"}, "%PDF-"sv, "", export_text},
      {"NumPy", {".npy"}, "\x93NUMPY"sv, "", "write token ids to a *.bin file: array.astype('uint16').tofile(...)"},
      {"Git LFS pointer",
       {},
       "version https://git-lfs.github.com/spec/"sv,
       "",
       "fetch what it stands for: git lfs pull"},
      {"Memo tokens", {}, "memo-tokens 1\n"sv, "", "name the text that it was made from"},
  };
  return known;
}

}  // namespace

Status check_text_file(const Path& file) {
  MEMO_TRY(const InputFile input, InputFile::open(file));
  const auto part = [&](std::int64_t at, std::size_t size) {
    std::string bytes(std::min(size, static_cast<std::size_t>(input.size())), '\0');
    return input.read(std::max<std::int64_t>(0, at), std::as_writable_bytes(std::span(bytes))) ? bytes : std::string();
  };
  const std::string begin = part(0, 64), end = part(input.size() - 4, 4),
                    ending = lower_case(file.extension().string());
  for (const Format& format : formats()) {
    const bool named = std::ranges::find(format.endings, ending) != format.endings.end();
    const bool is = !format.begin.empty() && begin.starts_with(format.begin) && end.ends_with(format.end);
    if (named || is)
      return bad_input(fmt::format("{}: is a {} file{}, no text; {}", file.string(), format.name,
                                   is ? "" : " by its name", format.advice));
  }
  return {};
}

}  // namespace memo::corpus
