// The format of kept ids, their checks, and writing without a name until the end.
#include "memo/corpus/token_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "memo/base/text.h"

namespace memo::corpus {
namespace {

constexpr std::array<char, 16> magic{'m', 'e', 'm', 'o', '-', 't', 'o', 'k', 'e', 'n', 's', ' ', '1', '\n'};
constexpr std::size_t chunk = 1 << 23;

struct Header {
  std::array<char, 16> format = magic;
  TokenOrigin origin{};
  std::uint64_t ids_hash = 0;  // XXH3, 64 bits
  std::int64_t tokens = 0, width = 0;
};
static_assert(sizeof(Header) == 72 && std::is_trivially_copyable_v<Header>);

// Calls visit(pieces of `bytes`), in order. Releases the mapping's pages after each piece.
template <class Visit>
void for_each_chunk(const MappedFile& mapped, std::span<const std::byte> bytes, Visit visit) {
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(chunk, bytes.size()))) {
    visit(bytes.first(std::min(chunk, bytes.size())));
    mapped.release();
  }
}

// Permissions that hide the tokens from users who cannot read the text.
mode_t mode_beside(const Path& text) {
  struct stat about {};
  return ::stat(text.c_str(), &about) == 0 && (about.st_mode & S_IROTH) != 0 ? 0644 : 0600;
}

Path folder_of(const Path& file) { return file.has_parent_path() ? file.parent_path() : Path("."); }

}  // namespace

Result<Hash128> hash_file(const Path& file, std::string_view more) {
  MEMO_TRY(const MappedFile mapped, MappedFile::map(file));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  XXH3_128bits_reset(state.get());
  for_each_chunk(mapped, mapped.bytes(),
                 [&](const auto& bytes) { XXH3_128bits_update(state.get(), bytes.data(), bytes.size()); });
  XXH3_128bits_update(state.get(), more.data(), more.size());
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return Hash128{hash.low64, hash.high64};
}

Path token_file_of(const Path& text, const Hash128& tokenizer) {
  return text.string() + "." + hex16(tokenizer[0]) + ".tokens";
}

bool is_external(const Path& token_file) {
  std::error_code ignored;
  if (!std::filesystem::exists(std::filesystem::symlink_status(token_file, ignored))) return false;
  if (!std::filesystem::is_regular_file(std::filesystem::symlink_status(token_file, ignored))) return true;
  std::array<char, magic.size()> begin{};
  const auto file = InputFile::open(token_file);
  if (!file) return true;
  const auto size = std::min(begin.size(), static_cast<std::size_t>(file->size()));  // an empty file may be replaced
  return !file->read(0, std::as_writable_bytes(std::span(begin).first(size))) ||
         !std::equal(begin.begin(), begin.begin() + size, magic.begin());
}

std::optional<TokenIds> read_tokens(const Path& token_file, const TokenOrigin& origin) {
  auto mapped = MappedFile::map(token_file);
  if (!mapped || mapped->bytes().size() < sizeof(Header)) return std::nullopt;
  Header header;
  std::memcpy(&header, mapped->bytes().data(), sizeof header);
  if (header.format != magic || header.origin != origin || (header.width != 2 && header.width != 4))
    return std::nullopt;
  const auto ids = mapped->bytes().subspan(sizeof header);
  if (ids.size() % static_cast<std::size_t>(header.width) != 0 ||
      header.tokens != static_cast<std::int64_t>(ids.size()) / header.width)
    return std::nullopt;
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for_each_chunk(*mapped, ids, [&](const auto& bytes) { XXH3_64bits_update(state.get(), bytes.data(), bytes.size()); });
  if (XXH3_64bits_digest(state.get()) != header.ids_hash) return std::nullopt;
  return TokenIds{*std::move(mapped), header.tokens, static_cast<int>(header.width), sizeof header};
}

TokenWriter::TokenWriter() : hash_(XXH3_createState()) { XXH3_64bits_reset(hash_.get()); }

Result<TokenWriter> TokenWriter::create(const std::optional<Path>& keep, const Path& text) {
  TokenWriter writer;
  if (keep)
    writer.file_ = Descriptor(::open(folder_of(*keep).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, mode_beside(text)));
  if (writer.file_) writer.keep_ = keep;
  if (!writer.file_) MEMO_CHECKED(writer.move_to_memory());
  const Header later;
  MEMO_CHECKED(writer.append({reinterpret_cast<const char*>(&later), sizeof later}));
  return writer;
}

Status TokenWriter::write(std::string_view bytes) {
  XXH3_64bits_update(hash_.get(), bytes.data(), bytes.size());
  return append(bytes);
}

Status TokenWriter::append(std::string_view bytes) {
  while (!write_all(file_.get(), bytes)) {
    if (!keep_) return run_time_error(fmt::format("cannot hold the tokens in memory: {}", std::strerror(errno)));
    MEMO_CHECKED(move_to_memory());
  }
  size_ += static_cast<std::int64_t>(bytes.size());
  return {};
}

Status TokenWriter::move_to_memory() {
  Descriptor memory(::memfd_create("tokens", MFD_CLOEXEC));
  off_t done = 0;
  while (memory &&
         done<size_&& ::sendfile(memory.get(), file_.get(), &done, static_cast<std::size_t>(size_ - done))> 0) {
  }
  if (!memory || done < size_)
    return run_time_error(fmt::format("cannot hold the tokens in memory: {}", std::strerror(errno)));
  file_ = std::move(memory);
  keep_.reset();
  return {};
}

// Gives the file its name. A file of this name is Memo's, with the ids of an older text, and is replaced. Failing to
// name it changes nothing else.
void TokenWriter::give_name() {
  const std::string here = fmt::format("/proc/self/fd/{}", file_.get());
  const auto link = [&](const Path& name) {
    return ::linkat(AT_FDCWD, here.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
  };
  if (::fsync(file_.get()) != 0 || link(*keep_) || errno != EEXIST) return;
  const Path beside = fmt::format("{}.{}", keep_->string(), ::getpid());
  if (link(beside) && ::rename(beside.c_str(), keep_->c_str()) != 0) ::unlink(beside.c_str());
}

Result<TokenIds> TokenWriter::finish(const TokenOrigin& origin, int width) {
  Header header;
  header.origin = origin;
  header.ids_hash = XXH3_64bits_digest(hash_.get());
  header.width = width;
  header.tokens = (size_ - static_cast<std::int64_t>(sizeof header)) / width;
  if (::pwrite(file_.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header))
    return run_time_error(fmt::format("cannot write the tokens: {}", std::strerror(errno)));
  if (keep_) give_name();
  MEMO_TRY(MappedFile mapped, MappedFile::map(file_.get(), size_));
  return TokenIds{std::move(mapped), header.tokens, width, sizeof header};
}

}  // namespace memo::corpus
