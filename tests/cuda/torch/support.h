// What the tests of the emulated GPU share.
#pragma once

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "memo/gpu/allocator.h"
#include "memo/libtorch/memory/allocator.h"
#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {

inline const c10::Device cuda_0(c10::kCUDA, 0);

// Whether `there` is a tensor of the device with the bits of `here`.
inline bool same(const at::Tensor& there, const at::Tensor& here) {
  return there.is_cuda() && there.sizes() == here.sizes() && at::equal(there.cpu(), here);
}

// The default stream at a pace; afterwards prompt again.
struct AtPace {
  explicit AtPace(Pace pace) { set_pace(nullptr, pace); }
  AtPace(const AtPace&) = delete;
  AtPace& operator=(const AtPace&) = delete;
  ~AtPace() {
    cudaDeviceSynchronize();
    set_pace(nullptr, Pace::prompt);
  }
};

// The bytes that a call asks for, in order: those of its results and its temporaries.
template <class F>
std::vector<std::int64_t> requests_of(const F& call) {
  gpu::install_allocator();
  std::vector<std::int64_t> requests;
  {
    const libtorch::RecordingScope recording(c10::kCUDA);
    call();
    for (const libtorch::AllocationEvent& event : recording.events())
      if (event.is_malloc) requests.push_back(event.bytes.value());
  }
  return requests;
}

}  // namespace memo::cuda::emulated
