#include "memo/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <type_traits>
#include <utility>
#include <vector>

#include "memo/base/stand_in.h"

namespace memo {
namespace {

std::string reason() { return std::strerror(errno); }

Status write_and_sync(const Path& path, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return run_time_error(fmt::format("{}: cannot write: {}", path.string(), reason()));
  if (!write_all(fd, text)) {
    const std::string why = reason();
    ::close(fd);
    ::unlink(path.c_str());
    return run_time_error(fmt::format("{}: cannot write: {}", path.string(), why));
  }
  const bool synced = ::fsync(fd) == 0;
  const std::string why = synced ? "" : reason();
  ::close(fd);
  if (!synced) return run_time_error(fmt::format("{}: cannot sync: {}", path.string(), why));
  return {};
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

Status write_atomically(const Path& path, std::string_view text) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored))
    return bad_input(fmt::format("{}: is not a file that can be replaced; name another", path.string()));
  const Path temporary = path.string() + ".partial";
  MEMO_CHECKED(write_and_sync(temporary, text));
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return run_time_error(fmt::format("{}: cannot rename into place: {}", path.string(), reason()));
  const Path folder = path.has_parent_path() ? path.parent_path() : Path(".");
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
  return {};
}

Status make_folder(const Path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return run_time_error(fmt::format("{}: cannot create the folder: {}", path.string(), error.message()));
  return {};
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
    // The library would cast what is no integer, or too large for one.
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
