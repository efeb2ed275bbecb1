// The GPU: its three streams and its memory.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "memo/base/units.h"
#include "memo/cuda/runtime.h"

namespace memo::cuda {

struct FreeDevice {
  void operator()(std::byte* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<std::byte, FreeDevice>;

// One GPU. None of the streams that it makes waits for the legacy default stream nor is waited for by it.
class Device {
 public:
  enum class Compute { own_stream, legacy_default_stream };
  // The only GPU that the process sees (CUDA_VISIBLE_DEVICES). Fails where there is none, more than one, or a slice of
  // one (MIG).
  static Result<Device> open(Compute compute = Compute::own_stream);

  [[nodiscard]] const std::string& name() const { return name_; }
  // Compute capability, 10 times the major number and the minor.
  [[nodiscard]] int capability() const { return capability_; }
  [[nodiscard]] cudaStream_t compute() const { return compute_.get(); }
  [[nodiscard]] cudaStream_t out() const { return out_.get(); }
  [[nodiscard]] cudaStream_t in() const { return in_.get(); }
  // The node of the host's memory that is nearest to the GPU; -1: the host has one, or the driver does not know.
  [[nodiscard]] int host_node() const { return host_node_; }

  // Memory of the GPU, exactly `bytes`, in one piece, aligned to 256.
  static Result<DeviceMemory> allocate(Bytes bytes);

 private:
  Stream compute_;  // null: the legacy default stream
  Stream out_, in_;
  int host_node_ = -1;
  std::string name_;
  int capability_ = 0;
};

}  // namespace memo::cuda
