// The MLP's activation, forward and backward.
#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/kernels/rows.h"
#include "memo/libtorch/kernels/simd.h"
#include "memo/libtorch/kernels/table.h"

namespace memo::libtorch {
namespace {

using simd::Floats, simd::for_lanes, simd::load, simd::store;

template <class T>
MEMO_CLONES void swiglu_rows(const T* h, T* a, std::int64_t rows, std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r, h += 2 * columns, a += columns)
    for_lanes(columns, [&](std::int64_t i, auto n) MEMO_INLINE {
      const Floats gate = load(h + i, n), up = load(h + columns + i, n);
      store(a + i, gate * simd::sigmoid(gate) * up, n);
    });
}

template <class T>
MEMO_CLONES void swiglu_backward_rows(const T* h, T* a, T* dh, std::int64_t rows, std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r, h += 2 * columns, a += columns, dh += 2 * columns)
    for_lanes(columns, [&](std::int64_t i, auto n) MEMO_INLINE {
      const Floats gate = load(h + i, n), up = load(h + columns + i, n), da = load(a + i, n);
      const Floats s = simd::sigmoid(gate);
      const Floats silu = gate * s;
      store(a + i, silu * up, n);
      store(dh + i, da * up * (s + silu * (1.0f - s)), n);
      store(dh + columns + i, da * silu, n);
    });
}

// GPT-2's gelu_new: x/2 (1 + tanh(z/2)) = x sigmoid(z), z = 2 sqrt(2/pi) (x + 0.044715 x^3).
constexpr float gelu_scale = 1.5957691216057308f, gelu_cubic = 0.044715f;

template <class T>
MEMO_CLONES void gelu_rows(const T* h, T* a, std::int64_t rows, std::int64_t columns) {
  for_lanes(rows * columns, [&](std::int64_t i, auto n) MEMO_INLINE {
    const Floats x = load(h + i, n);
    store(a + i, x * simd::sigmoid(gelu_scale * (x + gelu_cubic * x * x * x)), n);
  });
}

template <class T>
MEMO_CLONES void gelu_backward_rows(const T* h, T* a, T* dh, std::int64_t rows, std::int64_t columns) {
  for_lanes(rows * columns, [&](std::int64_t i, auto n) MEMO_INLINE {
    const Floats x = load(h + i, n), da = load(a + i, n);
    const Floats s = simd::sigmoid(gelu_scale * (x + gelu_cubic * x * x * x));
    const Floats slope = gelu_scale * (1.0f + 3 * gelu_cubic * x * x);
    store(a + i, x * s, n);
    store(dh + i, da * (s + x * s * (1.0f - s) * slope), n);
  });
}

}  // namespace

namespace on_cpu {

void activate(const at::Tensor& h, model::Activation activation, at::Tensor& a) {
  const std::int64_t inner = h.size(1), columns = a.size(1);
  with_type(h, [&](auto t) {
    using T = decltype(t);
    for_rows(a.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
      auto* rows = activation == model::Activation::silu ? swiglu_rows<T> : gelu_rows<T>;
      rows(in<T>(h) + begin * inner, out<T>(a) + begin * columns, end - begin, columns);
    });
  });
}

void activate_backward(const at::Tensor& h, model::Activation activation, at::Tensor& a, at::Tensor& dh) {
  const std::int64_t inner = h.size(1), columns = a.size(1);
  with_type(h, [&](auto t) {
    using T = decltype(t);
    for_rows(a.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
      auto* rows = activation == model::Activation::silu ? swiglu_backward_rows<T> : gelu_backward_rows<T>;
      rows(in<T>(h) + begin * inner, out<T>(a) + begin * columns, out<T>(dh) + begin * inner, end - begin, columns);
    });
  });
}

}  // namespace on_cpu

void mlp_on_cpu(Kernels& table) {
  table.activate = on_cpu::activate;
  table.activate_backward = on_cpu::activate_backward;
}

}  // namespace memo::libtorch
