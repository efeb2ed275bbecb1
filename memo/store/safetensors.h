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

// other: any further dtype of the format (of masks and counters in some checkpoints), listed but not usable for
// weights.
enum class TensorDType { f32, bf16, f16, other };

struct TensorEntry {
  TensorDType dtype = TensorDType::f32;
  std::string dtype_name;  // as written in the file
  std::vector<std::int64_t> shape;
  Path file;
  std::int64_t offset = 0;  // in the file
  Bytes bytes;
};

// The tensors of a folder or file. Opening reads only the headers, and checks that every range they name lies in its
// file, that ranges do not overlap, that sizes agree with shapes, that no file lies outside the folder, and that no
// tensor is in two shards.
class TensorFiles {
 public:
  static Result<TensorFiles> open_folder(const Path& folder);
  static Result<TensorFiles> open_file(const Path& file);

  [[nodiscard]] const Path& where() const { return where_; }
  // Sorted by name; values are row-major and little endian.
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

// A tensor to write. `bytes()` gives the bytes for `shape`, valid until it is called for the next tensor.
struct TensorSource {
  std::string name;
  TensorDType dtype = TensorDType::f32;  // any but other
  std::vector<std::int64_t> shape;
  std::function<Result<std::span<const std::byte>>()> bytes;
};

// Does not sync (memo/store/manifest.h).
Result<FileSum> write_tensor_file(const Path& file, std::span<const TensorSource> tensors);

// Writes to a folder that holds no model yet: model.safetensors, or shards of at most `shard_limit` (0: no limit; a
// larger tensor gets a shard of its own) in the order of `tensors`, and finally model.safetensors.index.json.
Result<std::vector<FileSum>> write_tensor_folder(const Path& folder, std::span<const TensorSource> tensors,
                                                 Bytes shard_limit);

}  // namespace memo::store
