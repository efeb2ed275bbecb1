// Hashes files, and reads and checks manifests that may be damaged.
#include "memo/store/manifest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "memo/base/input_file.h"
#include "memo/base/json.h"
#include "memo/base/text.h"

namespace memo::store {
namespace {

using nlohmann::json;

tl::unexpected<Error> not_hashed(const Path& path, const char* doing) {
  return run_time_error(fmt::format("{}: cannot {}: {}", path.string(), doing, std::strerror(errno)));
}

std::optional<std::uint64_t> parse_hash(const std::string& text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value, 16);
  if (text.size() != 16 || error != std::errc() || rest != end || hex16(value) != text) return std::nullopt;
  return value;
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && Path(name).filename() == Path(name) &&
         name.find('\0') == std::string::npos;
}

// Nothing if this is no entry of a manifest.
std::optional<FileSum> read_sum(const json& entry) {
  if (!entry.is_object() || entry.size() != 3) return std::nullopt;
  const auto name = entry.find("name"), bytes = entry.find("bytes"), hash = entry.find("xxh3");
  if (name == entry.end() || bytes == entry.end() || hash == entry.end()) return std::nullopt;
  if (!name->is_string() || !bytes->is_number_unsigned() || !hash->is_string()) return std::nullopt;
  const auto value = parse_hash(hash->get<std::string>());
  if (!is_plain_name(name->get<std::string>()) || !value) return std::nullopt;
  if (bytes->get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return std::nullopt;
  return FileSum{name->get<std::string>(), bytes->get<std::int64_t>(), *value};
}

Result<InputFile> open_listed(const Path& folder, const FileSum& sum) {
  const Path path = folder / sum.name;
  MEMO_TRY(InputFile file, InputFile::open(path));
  if (file.size() == sum.bytes) return file;
  return bad_input(
      fmt::format("{}: has {} bytes, {} were written; the file is damaged", path.string(), file.size(), sum.bytes));
}

}  // namespace

HashedFile::HashedFile(Path path, int fd) : path_(std::move(path)), fd_(fd), hash_(XXH3_createState()) {
  XXH3_64bits_reset(hash_.get());
}

HashedFile::HashedFile(HashedFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      bytes_(other.bytes_),
      hash_(std::move(other.hash_)) {}

HashedFile::~HashedFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(path_.c_str());
}

Result<HashedFile> HashedFile::create(const Path& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return not_hashed(path, "write");
  return HashedFile(path, fd);
}

Status HashedFile::write(std::span<const std::byte> bytes) {
  XXH3_64bits_update(hash_.get(), bytes.data(), bytes.size());
  bytes_ += static_cast<std::int64_t>(bytes.size());
  const bool wrote = write_all(fd_, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  return wrote ? Status() : not_hashed(path_, "write");
}

Result<FileSum> HashedFile::close() {
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0) return not_hashed(path_, "write");
  return FileSum{path_.filename().string(), bytes_, XXH3_64bits_digest(hash_.get())};
}

Result<FileSum> write_hashed(const Path& path, std::string_view text) {
  MEMO_TRY(HashedFile file, HashedFile::create(path));
  MEMO_CHECKED(file.write(std::as_bytes(std::span(text))));
  return file.close();
}

Status write_manifest(const Path& folder, const std::vector<FileSum>& files) {
  json list = json::array();
  for (const FileSum& sum : files)
    list.push_back({{"name", sum.name}, {"bytes", sum.bytes}, {"xxh3", hex16(sum.hash)}});
  const json manifest{{"version", 1}, {"files", list}};
  MEMO_CHECKED(write_hashed(folder / manifest_name, json_text(manifest, 1) + "\n"));
  return {};
}

Result<std::vector<FileSum>> read_manifest(const Path& folder) {
  const Path file = folder / manifest_name;
  MEMO_TRY(const json manifest, read_json(file));
  MEMO_TRY(const std::int64_t version, json_field<std::int64_t>(manifest, "version", file));
  if (version != 1)
    return bad_input(fmt::format("{}: 'version' is {}; this memo reads version 1", file.string(), version));
  MEMO_TRY(const json list, json_field<json>(manifest, "files", file));
  if (!list.is_array()) return bad_input(fmt::format("{}: 'files' is no list; the file is damaged", file.string()));
  std::vector<FileSum> files;
  for (const json& entry : list) {
    const std::optional<FileSum> sum = read_sum(entry);
    if (!sum)
      return bad_input(
          fmt::format("{}: entry {} of 'files' has no name in this folder, size and hash; the file is "
                      "damaged",
                      file.string(), files.size() + 1));
    if (std::any_of(files.begin(), files.end(), [&](const FileSum& other) { return other.name == sum->name; }))
      return bad_input(
          fmt::format("{}: lists '{}' twice; the file is damaged", file.string(), one_line(sum->name.substr(0, 200))));
    files.push_back(*sum);
  }
  return files;
}

Status check_files(const Path& folder) {
  MEMO_TRY(const std::vector<FileSum> files, read_manifest(folder));
  for (const FileSum& sum : files) MEMO_CHECKED(open_listed(folder, sum));
  return {};
}

Status verify_files(const Path& folder) {
  MEMO_TRY(const std::vector<FileSum> files, read_manifest(folder));
  constexpr std::int64_t at_once = 1 << 20;
  std::vector<std::byte> buffer(at_once);
  for (const FileSum& sum : files) {
    MEMO_TRY(const InputFile file, open_listed(folder, sum));
    const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(), XXH3_freeState);
    XXH3_64bits_reset(hash.get());
    for (std::int64_t at = 0; at < sum.bytes; at += at_once) {
      const std::span<std::byte> part(buffer.data(), static_cast<std::size_t>(std::min(at_once, sum.bytes - at)));
      MEMO_CHECKED(file.read(at, part));
      XXH3_64bits_update(hash.get(), part.data(), part.size());
    }
    const std::uint64_t found = XXH3_64bits_digest(hash.get());
    if (found != sum.hash)
      return bad_input(fmt::format("{}: is not what was written (checksum {}, not {}): the disk or the file is damaged",
                                   (folder / sum.name).string(), hex16(found), hex16(sum.hash)));
  }
  return {};
}

}  // namespace memo::store
