// The GPU as the copy engine's contract sees it, with registered host memory, on whatever CUDA runtime the test is
// linked with.
#pragma once

#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "memo/base/check.h"
#include "memo/cuda/copies.h"
#include "memo/cuda/device.h"
#include "memo/cuda/host_memory.h"
#include "tests/exec/copy_engine_contract.h"

namespace memo::cuda {

// The value of `result`, which the test takes for granted.
template <class T>
T sure(Result<T> result) {
  MEMO_CHECK(result, result.error().message.c_str());
  return *std::move(result);
}
inline void sure(const Status& status) { MEMO_CHECK(status, status.error().message.c_str()); }

struct CudaBackend : exec::CopyBackend {
  CudaBackend() {
    auto opened = Device::open();
    if (opened)
      device.emplace(*std::move(opened));
    else
      refusal = opened.error().message;
  }
  std::unique_ptr<exec::CopyEngine> engine(std::vector<exec::TierStore*> tiers) override {
    return sure(copy_engine(*device, std::move(tiers), staging));
  }
  std::unique_ptr<exec::TierStore> host_tier(Bytes bytes) { return sure(cuda::host_tier(*device, bytes)); }
  std::unique_ptr<exec::TierStore> tier(Bytes bytes) override { return host_tier(bytes); }
  std::byte* memory(std::size_t bytes) override {
    allocated.push_back(sure(Device::allocate(Bytes(static_cast<std::int64_t>(bytes)))));
    return allocated.back().get();
  }
  void write(std::byte* to, std::span<const std::byte> from) override {
    const HostMemory& host = buffer(from.size());
    std::memcpy(host.data(), from.data(), from.size());
    sure(check(cudaMemcpyAsync(to, host.data(), from.size(), cudaMemcpyHostToDevice, device->compute()), "write"));
  }
  std::vector<std::byte> read(const std::byte* from, std::size_t bytes) override {
    const HostMemory& host = buffer(bytes);
    sure(check(cudaMemcpyAsync(host.data(), from, bytes, cudaMemcpyDeviceToHost, device->compute()), "read"));
    sure(check(cudaStreamSynchronize(device->compute()), "read"));
    return {host.data(), host.data() + bytes};
  }

  std::optional<Device> device;
  StagingSize staging{Bytes(1 << 20), 3};
  std::vector<DeviceMemory> allocated;
  std::vector<HostMemory> buffers;  // of copies on the compute stream, which may run as long as this lives

 private:
  const HostMemory& buffer(std::size_t bytes) {
    buffers.push_back(sure(HostMemory::map(*device, Bytes(static_cast<std::int64_t>(bytes)), "test")));
    return buffers.back();
  }
};

}  // namespace memo::cuda
