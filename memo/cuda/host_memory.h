// Host memory that the GPU copies to and from at full speed: one mapping of the exact size, registered once.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "memo/cuda/device.h"
#include "memo/exec/tier.h"

namespace memo::cuda {

struct UnmapHost {
  std::size_t bytes = 0;
  bool registered = false;
  void operator()(std::byte* memory) const;
};

// Pages of 2 MiB are asked for, on the host's node nearest to the GPU, and all are there from the start.
class HostMemory {
 public:
  // `purpose` names it in errors.
  static Result<HostMemory> map(const Device& device, Bytes bytes, std::string_view purpose);

  [[nodiscard]] std::byte* data() const { return memory_.get(); }

 private:
  std::unique_ptr<std::byte, UnmapHost> memory_;
};

// Registered host memory as a tier: bytes move between it and the GPU without the host's help.
Result<std::unique_ptr<exec::TierStore>> host_tier(const Device& device, Bytes bytes);

}  // namespace memo::cuda
