// A GPU: its three streams and its memory.
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

// One GPU. The streams that it makes are not synchronised with the legacy default stream.
class Device {
 public:
  enum class Compute { own_stream, legacy_default_stream };
  // Opens a GPU of those that the process sees (CUDA_VISIBLE_DEVICES). Fails where there is no such GPU, or only a
  // slice of one (MIG).
  static Result<Device> open(Compute compute = Compute::own_stream, int index = 0);

  [[nodiscard]] int index() const { return index_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  // 10 times the major number of the compute capability, plus the minor one.
  [[nodiscard]] int capability() const { return capability_; }
  [[nodiscard]] cudaStream_t compute() const { return compute_.get(); }
  [[nodiscard]] cudaStream_t out() const { return out_.get(); }
  [[nodiscard]] cudaStream_t in() const { return in_.get(); }
  // The node of the host's memory that is nearest to the GPU; -1 where the host has only one, or the driver does not
  // tell.
  [[nodiscard]] int host_node() const { return host_node_; }

  // Memory of the current GPU: exactly `bytes`, in one piece, aligned to 256.
  static Result<DeviceMemory> allocate(Bytes bytes);

 private:
  Stream compute_;  // null: the legacy default stream
  Stream out_, in_;
  int host_node_ = -1;
  std::string name_;
  int index_ = 0, capability_ = 0;
};

// While it lives, a GPU is the one that the thread's calls of the runtime are about: events, memory, and the legacy
// default stream, which each GPU has.
class Current {
 public:
  explicit Current(int index);
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  ~Current();

 private:
  int index_, before_ = 0;
};

}  // namespace memo::cuda
