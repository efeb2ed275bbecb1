// Reads safetensors. Headers may come from untrusted sources: nothing in them is used before it is checked.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "memo/base/check.h"
#include "memo/base/input_file.h"
#include "memo/base/json.h"
#include "memo/base/python_json.h"
#include "memo/base/stand_in.h"
#include "memo/base/text.h"
#include "memo/store/model_folder.h"
#include "memo/store/safetensors.h"

namespace memo::store {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little);

constexpr std::int64_t prefix = 8;  // bytes that hold the header's size
constexpr std::size_t most_dimensions = 64;
constexpr std::int64_t longest_header = 100'000'000;  // the limit of the format's reference implementation

// Shortens and quotes a name for messages: names come from the file.
std::string quoted(const std::string& name) { return fmt::format("'{}'", one_line(name.substr(0, 200))); }

TensorDType dtype_of(const std::string& name) {
  if (name == "F32") return TensorDType::f32;
  if (name == "BF16") return TensorDType::bf16;
  if (name == "F16") return TensorDType::f16;
  return TensorDType::other;
}

// Nothing unless it is an array of integers that are 0 or more.
std::optional<std::vector<std::int64_t>> integers(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return std::nullopt;
  std::vector<std::int64_t> values;
  for (const json& value : *found) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
      return std::nullopt;
    values.push_back(value.get<std::int64_t>());
  }
  return values;
}

// Nothing if the product needs more than 63 bits.
std::optional<std::int64_t> product(std::int64_t factor, const std::vector<std::int64_t>& shape) {
  for (const std::int64_t size : shape)
    if (__builtin_mul_overflow(factor, size, &factor)) return std::nullopt;
  return factor;
}

// Reads one entry of the header; `data` is the offset behind the header.
Result<TensorEntry> read_entry(const std::string& name, const json& about, const Path& file, std::int64_t data,
                               std::int64_t file_size) {
  const auto corrupt = [&](const std::string& what) {
    return bad_input(
        fmt::format("{}: tensor {}: {}; the file is corrupt, copy it again", file.string(), quoted(name), what));
  };
  if (!about.is_object()) return corrupt("its entry in the header is no object");
  const auto dtype = about.find("dtype");
  if (dtype == about.end() || !dtype->is_string()) return corrupt("its dtype is missing");
  const auto shape = integers(about, "shape"), offsets = integers(about, "data_offsets");
  if (!shape || shape->size() > most_dimensions) return corrupt("its shape is no short list of sizes");
  if (!offsets || offsets->size() != 2 || offsets->front() > offsets->back())
    return corrupt("its data_offsets are no range");
  const std::int64_t begin = offsets->front(), end = offsets->back();
  if (end > file_size - data)
    return bad_input(
        fmt::format("{}: tensor {} reaches {} bytes beyond the file's end; the file is truncated, copy it again",
                    file.string(), quoted(name), end - (file_size - data)));
  const auto& dtype_name = dtype->get_ref<const std::string&>();
  TensorEntry entry{dtype_of(dtype_name), dtype_name, *shape, file, data + begin, Bytes(end - begin)};
  if (entry.dtype != TensorDType::other && product(entry.dtype == TensorDType::f32 ? 4 : 2, *shape) != end - begin)
    return corrupt(
        fmt::format("{} bytes do not match {} of shape {}", end - begin, dtype_name, json_text(about.at("shape"))));
  return entry;
}

// Checks that ranges follow each other without overlap.
Status check_ranges(const std::map<std::string, TensorEntry>& tensors) {
  std::vector<std::pair<const std::string*, const TensorEntry*>> order;
  order.reserve(tensors.size());
  for (const auto& [name, entry] : tensors) order.emplace_back(&name, &entry);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->offset, a.second->bytes) < std::pair(b.second->offset, b.second->bytes);
  });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const auto& [before, last] = order[i - 1];
    if (last->offset + last->bytes.value() > order[i].second->offset)
      return bad_input(fmt::format("{}: tensors {} and {} overlap; the file is corrupt, copy it again",
                                   last->file.string(), quoted(*before), quoted(*order[i].first)));
  }
  return {};
}

// Says what a file is that is no safetensors file; "" if it cannot tell.
std::string other_format(std::string_view head) {
  if (std::string instead = stand_in(head); !instead.empty()) return instead;
  if (head.starts_with("PK\3\4")) return "is a PyTorch file under another name; load it there and save safetensors";
  if (head.starts_with("GGUF")) return "is a GGUF file under another name; only safetensors are read";
  const std::string_view begin = head.substr(0, 60);
  const auto is_text = [](unsigned char c) { return (c >= ' ' && c < 0x7F) || (c >= '\t' && c <= '\r'); };
  if (static_cast<std::int64_t>(begin.size()) > prefix && std::all_of(begin.begin(), begin.end(), is_text))
    return fmt::format("is text, not safetensors: {}; download it again", quoted(std::string(begin)));
  return "";
}

Result<std::map<std::string, TensorEntry>> read_header(const Path& path) {
  MEMO_TRY(const InputFile file, InputFile::open(path));
  std::string head(std::min(stand_in_bytes, static_cast<std::size_t>(file.size())), '\0');
  MEMO_CHECKED(file.read(0, std::as_writable_bytes(std::span(head))));
  const auto refuse = [&](const std::string& what) {
    const std::string format = other_format(head);
    return bad_input(fmt::format("{}: {}", path.string(), format.empty() ? what : format));
  };
  if (file.size() < prefix)
    return refuse(fmt::format("{} bytes are no safetensors file; it is truncated, copy it again", file.size()));
  std::uint64_t size = 0;
  MEMO_CHECKED(file.read(0, std::as_writable_bytes(std::span(&size, 1))));
  if (size > static_cast<std::uint64_t>(longest_header))
    return refuse(fmt::format("not a safetensors file: a header of {} bytes", size));
  if (static_cast<std::int64_t>(size) > file.size() - prefix)
    return refuse(fmt::format("ends at byte {}, within its header; the file is truncated, copy it again", file.size()));
  std::string text(size, '\0');
  MEMO_CHECKED(file.read(prefix, std::as_writable_bytes(std::span(text))));
  const json header = json_of(text);
  if (!header.is_object()) return refuse("not a safetensors file: its header is no JSON object");
  std::map<std::string, TensorEntry> tensors;
  for (const auto& [name, about] : header.items()) {
    if (name == "__metadata__") continue;
    MEMO_TRY(TensorEntry entry, read_entry(name, about, path, prefix + static_cast<std::int64_t>(size), file.size()));
    tensors.emplace(name, std::move(entry));
  }
  MEMO_CHECKED(check_ranges(tensors));
  return tensors;
}

Result<std::map<std::string, TensorEntry>> read_shards(const Path& folder, const Path& index_file) {
  MEMO_TRY(const json index, read_python_json(index_file));
  MEMO_TRY(const json weight_map, json_field<json>(index, "weight_map", index_file));
  if (!weight_map.is_object()) return bad_input(fmt::format("{}: 'weight_map' is no object", index_file.string()));
  std::map<std::string, std::map<std::string, TensorEntry>> shards;
  for (const auto& [name, value] : weight_map.items()) {
    const std::string file = value.is_string() ? value.get<std::string>() : "";
    if (Path(file).filename() != Path(file) || file.empty() || file == "." || file == ".." ||
        file.find('\0') != std::string::npos)
      return bad_input(fmt::format("{}: tensor {}: {} is no name of a file in this folder", index_file.string(),
                                   quoted(name), one_line(json_text(value))));
    if (!shards.contains(file)) {
      std::error_code error;
      if (!std::filesystem::exists(std::filesystem::symlink_status(folder / file, error)))
        return bad_input(fmt::format("{}: is missing, but {} says that it holds tensor {}; copy the shard too",
                                     one_line((folder / file).string()), index_file.filename().string(), quoted(name)));
      MEMO_TRY(shards[file], read_header(folder / file));
    }
    if (!shards[file].contains(name))
      return bad_input(fmt::format("{}: has no tensor {}, but {} says so; copy both from one source",
                                   one_line((folder / file).string()), quoted(name), index_file.filename().string()));
  }
  // As transformers does: all tensors of the shards.
  std::map<std::string, TensorEntry> tensors;
  for (auto& [file, inside] : shards)
    for (auto& [name, entry] : inside)
      if (const auto [at, fresh] = tensors.emplace(name, entry); !fresh)
        return bad_input(fmt::format("{}: tensor {} is in {} too; copy all shards from one source",
                                     one_line(entry.file.string()), quoted(name), at->second.file.filename().string()));
  return tensors;
}

}  // namespace

Result<TensorFiles> TensorFiles::open_file(const Path& file) {
  MEMO_TRY(auto tensors, read_header(file));
  return TensorFiles(file, std::move(tensors));
}

Result<TensorFiles> TensorFiles::open_folder(const Path& folder) {
  MEMO_TRY(const bool weights, has_weights(folder));
  if (!weights)
    return bad_input(fmt::format("{}: holds no weights, neither model.safetensors nor model.safetensors.index.json",
                                 folder.string()));
  std::error_code error;
  const Path whole = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (std::filesystem::exists(std::filesystem::symlink_status(whole, error))) return open_file(whole);
  MEMO_TRY(auto tensors, read_shards(folder, index));
  return TensorFiles(folder, std::move(tensors));
}

Result<const TensorEntry*> TensorFiles::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return &found->second;
  return bad_input(fmt::format("{}: has no tensor {}; the weights are of another model than config.json says{}",
                               where_.string(), quoted(name),
                               tensors_.empty() ? "" : fmt::format(" (there is {})", quoted(tensors_.begin()->first))));
}

Status TensorFiles::read(const std::string& name, std::int64_t begin, std::span<std::byte> into) const {
  MEMO_TRY(const TensorEntry* entry, find(name));
  MEMO_CHECK(begin >= 0 && begin <= entry->bytes.value() &&
                 static_cast<std::int64_t>(into.size()) <= entry->bytes.value() - begin,
             "a read lies inside its tensor");
  MEMO_TRY(const InputFile file, InputFile::open(entry->file));
  Status status = file.read(entry->offset + begin, into);
  if (!status) status.error().message += fmt::format(" (tensor {})", quoted(name));
  return status;
}

}  // namespace memo::store
