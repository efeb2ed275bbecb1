// Git LFS pointers and web pages, by their first bytes.
#include "memo/base/stand_in.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "memo/base/text.h"

namespace memo {
namespace {

// " of 12.00 GiB", as a Git LFS pointer says of the file that it stands for.
std::string size_of_pointer(std::string_view head) {
  constexpr std::string_view key = "\nsize ";
  const std::size_t at = head.find(key);
  if (at == std::string_view::npos) return "";
  const char* begin = head.data() + at + key.size();
  std::int64_t bytes = 0;
  const auto [rest, error] = std::from_chars(begin, head.data() + head.size(), bytes);
  return error == std::errc() && bytes >= 0 ? " of " + format_bytes(Bytes(bytes)) : "";
}

}  // namespace

std::string stand_in(std::string_view head) {
  head = head.substr(0, stand_in_bytes);
  if (head.empty()) return "is empty; download it again";
  if (head.starts_with("version https://git-lfs.github.com/"))
    return fmt::format(
        "is a Git LFS pointer, not the file{} that it stands for; run `git lfs pull` in its folder, or download the "
        "file itself",
        size_of_pointer(head));
  if (head.starts_with("\xEF\xBB\xBF")) head.remove_prefix(3);
  head.remove_prefix(std::min(head.find_first_not_of(" \t\r\n"), head.size()));
  const std::string begin = lower_case(std::string(head.substr(0, 16)));
  if (begin.starts_with("<!doctype html") || begin.starts_with("<html"))
    return "is a web page, not the file: its download was refused or led elsewhere; download it again";
  return "";
}

}  // namespace memo
