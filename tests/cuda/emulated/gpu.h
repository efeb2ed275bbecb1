// The emulated GPU for a test: a machine of its own, gone with it.
#pragma once

#include "tests/cuda/backend.h"
#include "tests/cuda/emulated/runtime/emulated.h"

namespace memo::cuda::emulated {

inline constexpr auto prompt = Pace::prompt, late = Pace::late;

struct Fresh {
  explicit Fresh(const Settings& settings) { reset(settings); }
  Fresh(const Fresh&) = delete;
  Fresh& operator=(const Fresh&) = delete;
  ~Fresh() { reset(); }
};

struct Gpu : private Fresh, public CudaBackend {
  explicit Gpu(const Settings& settings = {}) : Fresh(settings) {}
  void set_paces(Pace compute, Pace out, Pace in) {
    set_pace(device->compute(), compute);
    set_pace(device->out(), out);
    set_pace(device->in(), in);
  }
};

}  // namespace memo::cuda::emulated
