// The recorder's keeper of saved tensors: it learns which storages autograd keeps.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "memo/libtorch/memory/saved_tensors.h"

namespace memo::libtorch {

// Gives saved tensors back unchanged, and remembers the storages of those that autograd still holds and that are no
// parameters.
class Witness final : public SavedTensorKeeper {
 public:
  explicit Witness(std::span<const std::byte> parameters) : parameters_(parameters) {}
  std::optional<std::any> pack(const at::Tensor& tensor) override {
    const auto* data = static_cast<const std::byte*>(tensor.storage().data());
    const bool parameter = data >= parameters_.data() && data < parameters_.data() + parameters_.size();
    auto seen = std::make_shared<const Seen>(tensor, static_cast<std::int64_t>(tensor._version()));
    if (!parameter) saved_.emplace_back(data, seen);
    return std::any(std::move(seen));
  }
  at::Tensor unpack(const std::any& handle) override {
    if (over) throw std::runtime_error("behind attention a tensor goes on, with its graph, from before attention");
    const auto& [tensor, version] = *std::any_cast<const std::shared_ptr<const Seen>&>(handle);
    if (static_cast<std::int64_t>(tensor._version()) != version)
      throw std::runtime_error(
          fmt::format("a tensor of {} bytes that backward needs is modified in place after it was "
                      "saved",
                      tensor.nbytes()));
    return tensor;
  }
  [[nodiscard]] std::vector<const void*> storages() const {
    std::vector<const void*> result;
    for (const auto& [data, seen] : saved_)
      if (!seen.expired()) result.push_back(data);
    return result;
  }
  bool over = false;  // the backward side of the segment has run

 private:
  struct Seen {
    Seen(at::Tensor saved, std::int64_t at_version) : tensor(std::move(saved)), version(at_version) {}
    at::Tensor tensor;
    std::int64_t version = 0;
  };
  std::vector<std::pair<const void*, std::weak_ptr<const Seen>>> saved_;
  std::span<const std::byte> parameters_;
};

}  // namespace memo::libtorch
