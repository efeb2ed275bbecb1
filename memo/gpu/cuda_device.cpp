// Runs work on a stream of LibTorch, and counts unplanned memory by the caching allocator.
#include "memo/gpu/cuda_device.h"

#include <ATen/Context.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <fmt/format.h>

#include <optional>
#include <stdexcept>
#include <utility>

#include "memo/base/check.h"
#include "memo/gpu/allocator.h"
#include "memo/gpu_memory/gpu_device.h"
#include "memo/kernels/launch.h"
#include "memo/libtorch/memory/allocator.h"

namespace memo::gpu {
namespace {

// A thread's first products on a stream make cuBLAS's handles and workspaces, which stay: make them outside of plans.
void make_handles(at::Device place) {
  const libtorch::UnplannedScope heap(at::kCUDA);
  const at::Tensor a = at::zeros({64, 64}, at::dtype(at::kBFloat16).device(place));
  at::mm(a, a);
  at::addmm(a[0], a, a);
}

void look_for_poison(const exec::Look& look, std::int64_t number, std::uint64_t* found, cudaStream_t stream) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(look.from);
  kernels::look_for_ones({words, look.stride.value() / std::int64_t{sizeof *words}, look.count},
                         static_cast<std::uint64_t>(number) << 32, found, stream);
}

class CudaDevice final : public gpu_memory::GpuDevice {
 public:
  CudaDevice(cuda::Device device, std::string name)
      : gpu_memory::GpuDevice(std::move(device)),
        name_(std::move(name)),
        place_(at::kCUDA, static_cast<c10::DeviceIndex>(index())),
        stream_(compute() == nullptr ? c10::cuda::getDefaultCUDAStream(place_.index())
                                     : c10::cuda::getStreamFromExternal(compute(), place_.index())) {}
  using gpu_memory::GpuDevice::prepare;

  [[nodiscard]] std::string name() const override { return name_; }
  [[nodiscard]] at::Device of_tensors() const override { return place_; }
  void run(const std::function<void()>& work) override {
    if (compute() == nullptr && c10::cuda::getCurrentCUDAStream(place_.index()) != stream_)
      throw std::runtime_error("PyTorch's current stream is not its default stream, on which Memo's calls run");
    const c10::cuda::CUDAStreamGuard guard(stream_);
    explained([&] {
      thread_local std::optional<c10::cuda::CUDAStream> has_handles;
      if (has_handles != stream_) make_handles(place_);
      has_handles = stream_;
      work();
    });
  }
  void finish() override {
    explained([&] { stream_.synchronize(); });
  }
  [[nodiscard]] libtorch::HeapUse unplanned() const override {
    const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(place_.index()).allocated_bytes[all];
    return {Bytes(stats.current), Bytes(stats.peak)};
  }
  void release_cache() override { c10::cuda::CUDACachingAllocator::emptyCache(); }
  void reset_unplanned_peak() override { c10::cuda::CUDACachingAllocator::resetPeakStats(place_.index()); }

 private:
  // Where LibTorch throws because the GPU is lost, which every call says from then on, throws what is to be done.
  void explained(const std::function<void()>& work) const {
    try {
      work();
    } catch (const std::exception&) {
      const cudaError_t state = cudaStreamQuery(compute());
      const Status lost = state == cudaErrorNotReady ? Status() : cuda::check(state, "go on");
      if (!lost) throw std::runtime_error(lost.error().message);
      (void)cudaGetLastError();  // of the query
      throw;
    }
  }

  const std::string name_;
  const at::Device place_;
  const c10::cuda::CUDAStream stream_;
};

}  // namespace

Result<std::unique_ptr<libtorch::Device>> open_cuda_device(cuda::Device::Compute compute, int index) {
  MEMO_TRY(cuda::Device device, cuda::Device::open(compute, index));
  if (device.capability() < 80)
    return bad_input(
        fmt::format("{}: compute capability {}.{}; flash attention in bfloat16 needs 8.0 or more: "
                    "take a newer GPU, or set memory.device = \"cpu\"",
                    device.name(), device.capability() / 10, device.capability() % 10));
  install_allocator();
  at::globalContext().lazyInitDevice(at::kCUDA);
  std::string name = device.name();
  auto gpu = std::make_unique<CudaDevice>(std::move(device), std::move(name));
  MEMO_CHECKED(gpu->prepare(look_for_poison));
  return gpu;
}

}  // namespace memo::gpu
