// A session's device on the CUDA backend, except for the stream that runs its kernels.
#pragma once

#include <memory>
#include <vector>

#include "memo/cuda/device.h"
#include "memo/libtorch/memory/device.h"

namespace memo::gpu_memory {

class GpuDevice : public libtorch::Device {
 public:
  Result<libtorch::Arena> map(Bytes bytes) final;
  Result<std::unique_ptr<exec::TierStore>> host_tier(Bytes bytes) final;
  Result<std::unique_ptr<exec::CopyEngine>> copy_engine(std::vector<exec::TierStore*> tiers) final;
  exec::ArenaBytes& bytes() final { return *bytes_; }

 protected:
  // Call `prepare` before use.
  explicit GpuDevice(cuda::Device device) : device_(std::move(device)) {}
  Status prepare();
  [[nodiscard]] cudaStream_t compute() const { return device_.compute(); }

 private:
  cuda::Device device_;
  std::unique_ptr<exec::ArenaBytes> bytes_;
};

}  // namespace memo::gpu_memory
