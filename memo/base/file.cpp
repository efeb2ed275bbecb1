// Reads, replaces and checks files, and words what went wrong.
#include "memo/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <type_traits>
#include <utility>
#include <vector>

#include "memo/base/stand_in.h"

namespace memo {
namespace {

namespace fs = std::filesystem;

std::string reason() { return std::strerror(errno); }

tl::unexpected<Error> failed(const Path& path, const char* doing) {
  return run_time_error(fmt::format("{}: cannot {}: {}", path.string(), doing, reason()));
}

// Creates a new file in the folder of `path`, under a name that nothing has.
Result<std::pair<int, Path>> create_beside(const Path& path) {
  for (int n = 0;; ++n) {
    Path temporary = path.parent_path() / fmt::format(".memo-{}-{}", ::getpid(), n);
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd >= 0) return std::pair(fd, std::move(temporary));
    if (errno != EEXIST) return failed(path, "write");
  }
}

Status write_and_rename(int fd, const Path& temporary, const Path& path, std::string_view text) {
  Status written;
  if (!write_all(fd, text)) {
    written = failed(path, "write");
  } else if (::fsync(fd) != 0) {
    written = failed(path, "sync");
  }
  ::close(fd);
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0) written = failed(path, "rename into place");
  if (!written) ::unlink(temporary.c_str());
  return written;
}

std::optional<std::string> dangling(const Path& path) {
  std::error_code ignored;
  if (!fs::is_symlink(path, ignored) || fs::exists(path, ignored)) return std::nullopt;
  return fmt::format("{} is a symbolic link to {}, which is not there", path.string(),
                     fs::read_symlink(path, ignored).string());
}

// An error when `path` cannot be replaced by a file.
Status check_place(const Path& path) {
  std::error_code ignored;
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored))
    return bad_input(fmt::format("{}: is not a file that can be replaced; name another", path.string()));
  const auto link = dangling(path);
  return link ? bad_input(*link + "; name another file") : Status();
}

// The reason why there is no folder at `path`, as far as its parents tell.
std::optional<std::string> in_the_way(const Path& path) {
  Path at;
  for (const Path& part : path) {
    at /= part;
    if (const auto link = dangling(at)) return *link + "; make that folder, or name another";
    std::error_code ignored;
    if (fs::exists(at, ignored) && !fs::is_directory(at, ignored))
      return fmt::format("{} is there and is no folder; name another", at.string());
  }
  return std::nullopt;
}

tl::unexpected<Error> no_folder(const Path& path, const std::string& why) {
  return run_time_error(fmt::format("{}: cannot create the folder: {}", path.string(), why));
}

}  // namespace

std::string why_not_opened(const Path& path, int error) {
  std::error_code ignored;
  if (error == ENOENT && std::filesystem::is_symlink(path, ignored))
    return fmt::format("is a link to {}, which is not there; download the file again",
                       std::filesystem::read_symlink(path, ignored).string());
  return fmt::format("cannot read: {}", std::strerror(error));
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

Result<std::string> read_text(const Path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    return bad_input(fmt::format("{}: is a folder, not a file", path.string()));
  std::ifstream in(path, std::ios::binary);
  if (!in) return bad_input(fmt::format("{}: {}", path.string(), why_not_opened(path, errno)));
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

Status write_atomically(const Path& given, std::string_view text) {
  MEMO_CHECKED(check_place(given));
  std::error_code error;
  const Path path = fs::is_symlink(given, error) ? fs::canonical(given, error) : given;
  MEMO_TRY(const auto created, create_beside(path));
  MEMO_CHECKED(write_and_rename(created.first, created.second, path, text));
  const Path folder = path.has_parent_path() ? path.parent_path() : Path(".");
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
  return {};
}

Status check_replaceable(const Path& path, const FileKind& kind) {
  MEMO_CHECKED(check_place(path));
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  std::ifstream in(path, std::ios::binary);
  std::string head(4096, '\0');
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(in.gcount()));
  const bool is_empty = head.empty() && in.eof();
  if (is_empty || (head.starts_with(kind.begins) && head.find(kind.contains) != std::string::npos)) return {};
  return bad_input(fmt::format("{}: is there already and is not {} that memo wrote; name another file, or remove it",
                               path.string(), kind.name));
}

Status replace_file(const Path& path, std::string_view text, const FileKind& kind) {
  MEMO_CHECKED(check_replaceable(path, kind));
  return write_atomically(path, text);
}

Status make_folder(const Path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  return error ? no_folder(path, in_the_way(path).value_or(error.message())) : Status();
}

Status check_folder(const Path& path) {
  if (const auto why = in_the_way(path)) return no_folder(path, *why);
  std::error_code error;
  Path nearest = fs::absolute(path, error);
  while (!fs::exists(nearest, error) && nearest.has_relative_path()) nearest = nearest.parent_path();
  if (::access(nearest.c_str(), W_OK | X_OK) == 0) return {};
  const std::string why = reason();
  if (fs::exists(path, error)) return run_time_error(fmt::format("{}: cannot write: {}", path.string(), why));
  return no_folder(path, fmt::format("{}: {}", nearest.string(), why));
}

Result<nlohmann::json> read_json(const Path& path) {
  MEMO_TRY(const std::string text, read_text(path));
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    const std::string instead = stand_in(text);
    return bad_input(
        fmt::format("{}: {}", path.string(), instead.empty() ? "not JSON: " + std::string(error.what()) : instead));
  }
}

template <class T>
Result<T> json_field(const nlohmann::json& object, const char* key, const Path& where) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || found == object.end())
    return bad_input(fmt::format("{}: '{}' is missing", where.string(), key));
  const auto wrong = [&] {
    return bad_input(fmt::format("{}: '{}' has the wrong type ({})", where.string(), key, found->type_name()));
  };
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    // Checked here, since the library would cast a number that is no integer or too large.
    if (!found->is_number_integer()) return wrong();
    if (found->is_number_unsigned() ? !std::in_range<T>(found->template get<std::uint64_t>())
                                    : !std::in_range<T>(found->template get<std::int64_t>()))
      return wrong();
  }
  try {
    return found->template get<T>();
  } catch (const nlohmann::json::exception&) {
    return wrong();
  }
}

template Result<std::string> json_field(const nlohmann::json&, const char*, const Path&);
template Result<std::int64_t> json_field(const nlohmann::json&, const char*, const Path&);
template Result<int> json_field(const nlohmann::json&, const char*, const Path&);
template Result<double> json_field(const nlohmann::json&, const char*, const Path&);
template Result<bool> json_field(const nlohmann::json&, const char*, const Path&);
template Result<nlohmann::json> json_field(const nlohmann::json&, const char*, const Path&);

}  // namespace memo
