// Weights in the safetensors format: a Hugging Face folder (model.safetensors, or model.safetensors.index.json and its
// shards) or one file. A file: u64 n, little endian; n bytes of JSON, name -> {dtype, shape, data_offsets}; the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/store/manifest.h"

namespace memo::store {

// other: any other dtype of the format (masks and counters in some checkpoints), listed but not for use as weights.
enum class TensorDType { f32, bf16, f16, other };

struct TensorEntry {
  TensorDType dtype = TensorDType::f32;
  std::string dtype_name;  // as the file has it
  std::vector<std::int64_t> shape;
  Path file;
  std::int64_t offset = 0;  // in the file
  Bytes bytes;
};

// The tensors of a folder or file. Opening reads and checks headers only: every range that a header names lies in its
// file, ranges do not overlap, sizes agree with shapes, no file lies outside the folder, no tensor is in two shards.
class TensorFiles {
 public:
  static Result<TensorFiles> open_folder(const Path& folder);
  static Result<TensorFiles> open_file(const Path& file);

  [[nodiscard]] const Path& where() const { return where_; }
  // Row-major, little endian. Sorted by name.
  [[nodiscard]] const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  [[nodiscard]] Result<const TensorEntry*> find(const std::string& name) const;
  // Fills `into` with the bytes of tensor `name` from its byte `begin` on.
  Status read(const std::string& name, std::int64_t begin, std::span<std::byte> into) const;

 private:
  TensorFiles(Path where, std::map<std::string, TensorEntry> tensors)
      : where_(std::move(where)), tensors_(std::move(tensors)) {}
  Path where_;
  std::map<std::string, TensorEntry> tensors_;
};

// The bytes that `shape` takes: a tensor is written from `bytes()`, valid until the next tensor's is called.
struct TensorSource {
  std::string name;
  TensorDType dtype = TensorDType::f32;  // not other
  std::vector<std::int64_t> shape;
  std::function<Result<std::span<const std::byte>>()> bytes;
};

// Not synced (memo/store/manifest.h).
Result<FileSum> write_tensor_file(const Path& file, std::span<const TensorSource> tensors);

// A folder that holds no model yet: model.safetensors, or shards of at most `shard_limit` (0: none; a larger tensor
// has a shard of its own) in the order of `tensors` and, last, model.safetensors.index.json.
Result<std::vector<FileSum>> write_tensor_folder(const Path& folder, std::span<const TensorSource> tensors,
                                                 Bytes shard_limit);

}  // namespace memo::store
