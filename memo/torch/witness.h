// What the recorder does with saved tensors.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "memo/torch/saved_tensors.h"

namespace memo::edge {

// Hands saved tensors back as they are, and remembers the storages of those that are not parameters.
class Witness final : public SavedTensorKeeper {
 public:
  explicit Witness(std::span<const std::byte> parameters) : parameters_(parameters) {}
  std::optional<std::any> pack(const at::Tensor& tensor) override {
    const auto* data = static_cast<const std::byte*>(tensor.storage().data());
    const bool parameter = data >= parameters_.data() && data < parameters_.data() + parameters_.size();
    if (!parameter) storages.push_back(data);
    return std::any(Seen{tensor, static_cast<std::int64_t>(tensor._version())});
  }
  at::Tensor unpack(const std::any& handle) override {
    if (over) throw std::runtime_error("behind attention a tensor goes on, with its graph, from before attention");
    const auto& [tensor, version] = std::any_cast<const Seen&>(handle);
    if (static_cast<std::int64_t>(tensor._version()) != version)
      throw std::runtime_error(
          fmt::format("a tensor of {} bytes that backward needs is modified in place after it was "
                      "saved",
                      tensor.nbytes()));
    return tensor;
  }
  std::vector<const void*> storages;
  bool over = false;  // the backward side of the segment has been run

 private:
  struct Seen {
    at::Tensor tensor;
    std::int64_t version = 0;
  };
  std::span<const std::byte> parameters_;
};

}  // namespace memo::edge
