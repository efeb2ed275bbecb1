#include "memo/torch/weights_io.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <set>

#include "memo/torch/safetensors.h"

namespace memo::edge {
namespace {

at::ScalarType torch_dtype(TensorDType dtype) {
  switch (dtype) {
    case TensorDType::bf16:
      return at::kBFloat16;
    case TensorDType::f16:
      return at::kHalf;
    default:
      return at::kFloat;
  }
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

// A whole tensor of a file, as float32.
Result<at::Tensor> read_tensor(const TensorFiles& files, const std::string& name,
                               const std::vector<std::int64_t>& shape) {
  MEMO_TRY(const TensorEntry* entry, files.find(name));
  if (entry->dtype == TensorDType::other)
    return bad_input(fmt::format("{}: tensor '{}' has a dtype that cannot be a weight", entry->file.string(), name));
  if (entry->shape != shape)
    return bad_input(fmt::format("{}: tensor '{}' has shape [{}], config.json asks for [{}]", entry->file.string(),
                                 name, fmt::join(entry->shape, ", "), fmt::join(shape, ", ")));
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(torch_dtype(entry->dtype)));
  MEMO_CHECKED(files.read(name, 0, {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()}));
  return tensor.to(at::kFloat);
}

// The rows of a parameter that a checkpoint tensor holds, and that tensor's own shape.
at::Tensor rows_of(const at::Tensor& parameter, const model::ParameterPart& part) {
  return parameter.narrow(0, part.row, part.rows);
}
std::vector<std::int64_t> stored_shape(const at::Tensor& rows, const model::ParameterPart& part) {
  return part.transposed ? rows.t().sizes().vec() : rows.sizes().vec();
}

struct Named {
  std::string name;
  at::Tensor tensor;
};

// Of parameter i.
std::vector<Named> optimizer_tensors(const ModelState& state, std::size_t i) {
  const std::string& name = state.specs()[i].name;
  std::vector<Named> all{{"first." + name, state.first_moments()[i]}, {"second." + name, state.second_moments()[i]}};
  if (!state.masters()[i].is_same(state.parameters()[i].value)) all.push_back({"master." + name, state.masters()[i]});
  return all;
}

}  // namespace

Status load_weights(ModelState& state, const Path& folder) {
  MEMO_TRY(const TensorFiles files, TensorFiles::open_folder(folder));
  return state.change([&](std::size_t i) -> Status {
    for (const model::ParameterPart& part : state.specs()[i].parts) {
      at::Tensor rows = rows_of(state.masters()[i], part);
      MEMO_TRY(const at::Tensor stored, read_tensor(files, part.name, stored_shape(rows, part)));
      rows.copy_(part.transposed ? stored.t() : stored);
    }
    return {};
  });
}

Result<std::vector<FileSum>> save_weights(ModelState& state, const Path& folder, const Progress& moved) {
  std::vector<TensorSource> sources;
  const auto scratch = std::make_shared<at::Tensor>();  // one transposed tensor at a time
  for (std::size_t i = 0; i < state.specs().size(); ++i)
    for (const model::ParameterPart& part : state.specs()[i].parts) {
      const at::Tensor rows = rows_of(state.parameters()[i].value, part);
      const TensorDType dtype = rows.scalar_type() == at::kBFloat16 ? TensorDType::bf16 : TensorDType::f32;
      sources.push_back({part.name, dtype, stored_shape(rows, part),
                         [&state, &moved, i, rows, part, scratch]() -> Result<std::span<const std::byte>> {
                           moved();
                           MEMO_CHECKED(state.bring(i));
                           *scratch = (part.transposed ? rows.t().contiguous() : rows).cpu();
                           return bytes_of(*scratch);
                         }});
    }
  constexpr std::int64_t shard_limit = std::int64_t{5} << 30;
  return write_tensor_folder(folder, sources, Bytes(shard_limit));
}

Result<FileSum> save_optimizer(ModelState& state, const Path& file, const Progress& moved) {
  std::vector<TensorSource> sources;
  const auto scratch = std::make_shared<at::Tensor>();
  for (std::size_t i = 0; i < state.specs().size(); ++i)
    for (const Named& named : optimizer_tensors(state, i))
      sources.push_back({named.name, TensorDType::f32, named.tensor.sizes().vec(),
                         [&state, &moved, i, tensor = named.tensor, scratch]() -> Result<std::span<const std::byte>> {
                           moved();
                           MEMO_CHECKED(state.bring(i));
                           *scratch = tensor.cpu();
                           return bytes_of(*scratch);
                         }});
  return write_tensor_file(file, sources);
}

Status load_optimizer(ModelState& state, const Path& file) {
  MEMO_TRY(const TensorFiles files, TensorFiles::open_file(file));
  return state.change([&](std::size_t i) -> Status {
    for (const Named& named : optimizer_tensors(state, i)) {
      MEMO_TRY(const at::Tensor stored, read_tensor(files, named.name, named.tensor.sizes().vec()));
      at::Tensor into = named.tensor;
      into.copy_(stored);
    }
    return {};
  });
}

}  // namespace memo::edge
