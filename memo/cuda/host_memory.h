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

// Asks for pages of 2 MiB on the host's node nearest to the GPU. All pages exist from the start.
class HostMemory {
 public:
  // `purpose` names the memory in errors.
  static Result<HostMemory> map(const Device& device, Bytes bytes, std::string_view purpose);

  [[nodiscard]] std::byte* data() const { return memory_.get(); }

 private:
  std::unique_ptr<std::byte, UnmapHost> memory_;
};

// A tier of registered host memory, which the GPU reads and writes without the host's help.
Result<std::unique_ptr<exec::TierStore>> host_tier(const Device& device, Bytes bytes);

}  // namespace memo::cuda
