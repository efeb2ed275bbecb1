// Copies parameters between the state and safetensors files, by the family's names.
#include "memo/libtorch/train/weights_io.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "memo/base/text.h"
#include "memo/store/safetensors.h"
#include "memo/store/weight_names.h"

namespace memo::libtorch {
namespace {

at::ScalarType torch_dtype(store::TensorDType dtype) {
  switch (dtype) {
    case store::TensorDType::bf16:
      return at::kBFloat16;
    case store::TensorDType::f16:
      return at::kHalf;
    default:
      return at::kFloat;
  }
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

Result<const store::TensorEntry*> find_weight(const store::TensorFiles& files, const std::string& name,
                                              const std::vector<std::int64_t>& shape) {
  MEMO_TRY(const store::TensorEntry* entry, files.find(name));
  if (entry->dtype == store::TensorDType::other)
    return bad_input(
        fmt::format("{}: tensor '{}' is {}; weights are read from F32, BF16 and F16, so a quantised model must be "
                    "turned back into one of these first",
                    entry->file.string(), name, one_line(entry->dtype_name.substr(0, 20))));
  if (entry->shape != shape)
    return bad_input(fmt::format("{}: tensor '{}' has shape [{}], config.json asks for [{}]", entry->file.string(),
                                 name, fmt::join(entry->shape, ", "), fmt::join(shape, ", ")));
  return entry;
}

// A whole tensor of a file, as float32.
Result<at::Tensor> read_tensor(const store::TensorFiles& files, const std::string& name,
                               const std::vector<std::int64_t>& shape) {
  MEMO_TRY(const store::TensorEntry* entry, find_weight(files, name, shape));
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(torch_dtype(entry->dtype)));
  MEMO_CHECKED(files.read(name, 0, {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()}));
  return tensor.to(at::kFloat);
}

// The rows of a parameter that a checkpoint's tensor holds, and that tensor's shape in the file.
at::Tensor rows_of(const at::Tensor& parameter, const model::ParameterPart& part) {
  return parameter.narrow(0, part.row, part.rows);
}
std::vector<std::int64_t> stored_shape(const at::Tensor& rows, const model::ParameterPart& part) {
  return part.transposed ? rows.t().sizes().vec() : rows.sizes().vec();
}

// Finds the weights of a folder, and checks that each exists and has its shape.
struct ModelFiles {
  store::TensorFiles files;
  store::WeightNames names;
  [[nodiscard]] const std::string& stored(const std::string& name) const {
    const auto found = names.stored.find(name);
    return found == names.stored.end() ? name : found->second;
  }
};
Result<ModelFiles> open_weights(const Path& folder, const std::vector<model::ParameterSpec>& specs) {
  MEMO_TRY(store::TensorFiles files, store::TensorFiles::open_folder(folder));
  MEMO_TRY(store::WeightNames names, store::weight_names(files, specs));
  ModelFiles model{std::move(files), std::move(names)};
  for (const model::ParameterSpec& spec : specs)
    for (const model::ParameterPart& part : spec.parts) {
      std::vector<std::int64_t> shape = spec.shape;
      shape.front() = part.rows;
      if (part.transposed) std::reverse(shape.begin(), shape.end());
      MEMO_CHECKED(find_weight(model.files, model.stored(part.name), shape));
    }
  return model;
}

struct Named {
  std::string name;
  at::Tensor tensor;
};

// Tensors of parameter i.
std::vector<Named> optimizer_tensors(const ModelState& state, std::size_t i) {
  const std::string& name = state.specs()[i].name;
  std::vector<Named> all{{"first." + name, state.first_moments()[i]}, {"second." + name, state.second_moments()[i]}};
  if (state.has_master(i)) all.push_back({"master." + name, state.masters()[i]});
  return all;
}

}  // namespace

Status check_weights(const model::Shape& shape, const Path& folder) {
  MEMO_CHECKED(open_weights(folder, model::parameters(shape)));
  return {};
}

Status load_weights(ModelState& state, const Path& folder, const Note& note) {
  MEMO_TRY(const ModelFiles model, open_weights(folder, state.specs()));
  const std::vector<std::string>& left_out = model.names.left_out;
  if (!left_out.empty())
    note(one_line(fmt::format("{}: {} tensor(s) are not of the model that config.json describes and are left out: {}{}",
                              folder.string(), left_out.size(), left_out.front(), left_out.size() > 1 ? ", ..." : "")));
  return state.change([&](std::size_t i) -> Status {
    for (const model::ParameterPart& part : state.specs()[i].parts) {
      at::Tensor rows = rows_of(state.masters()[i], part);
      MEMO_TRY(const at::Tensor stored, read_tensor(model.files, model.stored(part.name), stored_shape(rows, part)));
      rows.copy_(part.transposed ? stored.t() : stored);
    }
    return {};
  });
}

Result<std::vector<store::FileSum>> save_weights(ModelState& state, const Path& folder, const Progress& moved) {
  std::vector<store::TensorSource> sources;
  const auto scratch = std::make_shared<at::Tensor>();  // room for one transposed tensor at a time
  for (std::size_t i = 0; i < state.specs().size(); ++i)
    for (const model::ParameterPart& part : state.specs()[i].parts) {
      const at::Tensor rows = rows_of(state.parameters()[i].value, part);
      const store::TensorDType dtype =
          rows.scalar_type() == at::kBFloat16 ? store::TensorDType::bf16 : store::TensorDType::f32;
      sources.push_back({part.name, dtype, stored_shape(rows, part),
                         [&state, &moved, i, rows, part, scratch]() -> Result<std::span<const std::byte>> {
                           moved();
                           MEMO_CHECKED(state.bring(i));
                           *scratch = (part.transposed ? rows.t().contiguous() : rows).cpu();
                           return bytes_of(*scratch);
                         }});
    }
  constexpr std::int64_t shard_limit = std::int64_t{5} << 30;
  return store::write_tensor_folder(folder, sources, Bytes(shard_limit));
}

Result<store::FileSum> save_optimizer(ModelState& state, const Path& file, const Progress& moved) {
  std::vector<store::TensorSource> sources;
  const auto scratch = std::make_shared<at::Tensor>();
  for (std::size_t i = 0; i < state.specs().size(); ++i)
    for (const Named& named : optimizer_tensors(state, i))
      sources.push_back({named.name, store::TensorDType::f32, named.tensor.sizes().vec(),
                         [&state, &moved, i, tensor = named.tensor, scratch]() -> Result<std::span<const std::byte>> {
                           moved();
                           MEMO_CHECKED(state.bring(i));
                           *scratch = tensor.cpu();
                           return bytes_of(*scratch);
                         }});
  return store::write_tensor_file(file, sources);
}

Status load_optimizer(ModelState& state, const Path& file) {
  MEMO_TRY(const store::TensorFiles files, store::TensorFiles::open_file(file));
  return state.change([&](std::size_t i) -> Status {
    for (const Named& named : optimizer_tensors(state, i)) {
      MEMO_TRY(const at::Tensor stored, read_tensor(files, named.name, named.tensor.sizes().vec()));
      at::Tensor into = named.tensor;
      into.copy_(stored);
    }
    return {};
  });
}

}  // namespace memo::libtorch
