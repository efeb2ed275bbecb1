// A session's device on the CUDA backend, except for the stream that runs its kernels.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "memo/cuda/arena_bytes.h"
#include "memo/cuda/device.h"
#include "memo/libtorch/memory/device.h"

namespace memo::gpu_memory {

class GpuDevice : public libtorch::Device {
 public:
  Result<libtorch::Arena> map(Bytes bytes) final;
  Result<std::unique_ptr<exec::TierStore>> host_tier(Bytes bytes) final;
  Result<std::unique_ptr<exec::CopyEngine>> copy_engine(std::vector<exec::TierStore*> tiers) final;
  exec::ArenaBytes& bytes() final { return *bytes_; }
  // What is free, less a reserve for the workspaces of cuBLAS and cuDNN, kernels that are loaded later, and the
  // allocations of LibTorch that no plan places: a sixteenth of the GPU, at most 1 GiB.
  Result<std::optional<Bytes>> room() final;
  Result<std::optional<libtorch::DeviceFacts>> facts() final;

 protected:
  // Call `prepare` before use. `look`: the kernel of check mode.
  explicit GpuDevice(cuda::Device device) : device_(std::move(device)) {}
  Status prepare(cuda::LookForPoison look);
  // Gives back memory that LibTorch keeps and does not use.
  virtual void release_cache() {}
  [[nodiscard]] cudaStream_t compute() const { return device_.compute(); }
  [[nodiscard]] int index() const { return device_.index(); }

 private:
  cuda::Device device_;
  std::unique_ptr<exec::ArenaBytes> bytes_;
};

}  // namespace memo::gpu_memory
