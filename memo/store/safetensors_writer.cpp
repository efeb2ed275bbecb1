// Writes safetensors: one pass over the tensors, no copy of them in memory.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "memo/base/check.h"
#include "memo/base/json.h"
#include "memo/store/safetensors.h"

namespace memo::store {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

std::int64_t element_bytes(TensorDType dtype) { return dtype == TensorDType::f32 ? 4 : 2; }

const char* dtype_name(TensorDType dtype) {
  MEMO_CHECK(dtype != TensorDType::other, "a written tensor is F32, BF16 or F16");
  return dtype == TensorDType::f32 ? "F32" : dtype == TensorDType::bf16 ? "BF16" : "F16";
}

std::int64_t size_of(const TensorSource& tensor) {
  std::int64_t bytes = element_bytes(tensor.dtype);
  for (const std::int64_t size : tensor.shape)
    MEMO_CHECK(size >= 0 && !__builtin_mul_overflow(bytes, size, &bytes), "a written tensor's size fits 63 bits");
  return bytes;
}

// Sorts by width of elements, widest first, so that every tensor is aligned to its element, as readers that map the
// file expect.
std::vector<const TensorSource*> file_order(std::span<const TensorSource> tensors) {
  std::vector<const TensorSource*> order;
  for (const TensorSource& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const TensorSource* a, const TensorSource* b) {
    return element_bytes(a->dtype) > element_bytes(b->dtype);
  });
  return order;
}

std::string header_of(const std::vector<const TensorSource*>& order) {
  ordered_json header;  // keys in the reference implementation's order
  header["__metadata__"] = {{"format", "pt"}};
  std::int64_t end = 0;
  for (const TensorSource* tensor : order) {
    MEMO_CHECK(!header.contains(tensor->name), "names of written tensors are unique");
    const std::int64_t begin = end;
    end += size_of(*tensor);
    header[tensor->name] = {
        {"dtype", dtype_name(tensor->dtype)}, {"shape", tensor->shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = json_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins at a multiple of 8
  return text;
}

// Groups of consecutive tensors, each at most `limit` bytes unless it is a single tensor.
std::vector<std::span<const TensorSource>> shards_of(std::span<const TensorSource> tensors, Bytes limit) {
  std::vector<std::span<const TensorSource>> shards;
  std::size_t first = 0;
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::int64_t size = size_of(tensors[i]);
    if (i > first && size > limit.value() - bytes) {
      shards.push_back(tensors.subspan(first, i - first));
      first = i;
      bytes = 0;
    }
    bytes += size;
  }
  shards.push_back(tensors.subspan(first));
  return shards;
}

}  // namespace

Result<FileSum> write_tensor_file(const Path& file, std::span<const TensorSource> tensors) {
  const std::vector<const TensorSource*> order = file_order(tensors);
  const std::string header = header_of(order);
  const std::uint64_t header_size = header.size();
  MEMO_TRY(HashedFile out, HashedFile::create(file));
  MEMO_CHECKED(out.write(std::as_bytes(std::span(&header_size, 1))));
  MEMO_CHECKED(out.write(std::as_bytes(std::span(header))));
  for (const TensorSource* tensor : order) {
    MEMO_TRY(const std::span<const std::byte> bytes, tensor->bytes());
    MEMO_CHECK(static_cast<std::int64_t>(bytes.size()) == size_of(*tensor), "a written tensor's bytes match its shape");
    MEMO_CHECKED(out.write(bytes));
  }
  return out.close();
}

Result<std::vector<FileSum>> write_tensor_folder(const Path& folder, std::span<const TensorSource> tensors,
                                                 Bytes shard_limit) {
  const Path whole = folder / "model.safetensors", index_file = folder / "model.safetensors.index.json";
  for (const Path& file : {whole, index_file}) {
    std::error_code error;
    if (std::filesystem::exists(file, error))
      return bad_input(fmt::format("{}: exists; write the model into another folder", file.string()));
  }
  const auto shards =
      shard_limit == Bytes(0) ? std::vector<std::span<const TensorSource>>{tensors} : shards_of(tensors, shard_limit);
  if (shards.size() == 1) {
    MEMO_TRY(FileSum sum, write_tensor_file(whole, tensors));
    return std::vector<FileSum>{std::move(sum)};
  }
  std::vector<FileSum> sums;
  json weight_map = json::object();
  std::int64_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    MEMO_TRY(FileSum sum, write_tensor_file(folder / name, shards[i]));
    sums.push_back(std::move(sum));
    for (const TensorSource& tensor : shards[i]) {
      MEMO_CHECK(weight_map.emplace(tensor.name, name).second, "names of written tensors are unique");
      total += size_of(tensor);
    }
  }
  const json index{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  MEMO_TRY(FileSum sum, write_hashed(index_file, json_text(index, 2) + "\n"));
  sums.push_back(std::move(sum));
  return sums;
}

}  // namespace memo::store
