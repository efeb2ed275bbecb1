// RMS norm and layer norm. Backward computes statistics again: the row is in cache, and nothing needs to be kept.
#include <ATen/ops/empty.h>

#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/kernels/rows.h"
#include "memo/libtorch/kernels/simd.h"
#include "memo/libtorch/kernels/table.h"

namespace memo::libtorch {
namespace {

using simd::Floats, simd::for_lanes, simd::load, simd::store;

struct Statistics {
  float mean, scale;  // the normed value is (x - mean) * scale
};

template <class T>
MEMO_INLINE inline Statistics statistics(const T* x, std::int64_t columns, bool layer, float eps) {
  const auto count = static_cast<float>(columns);
  Floats total{};
  float mean = 0;
  if (layer) {
    for_lanes(columns, [&](std::int64_t i, auto n) MEMO_INLINE { total += load(x + i, n); });
    mean = simd::sum(total) / count;
    total = Floats{};
  }
  for_lanes(columns, [&](std::int64_t i, auto n) MEMO_INLINE {
    const Floats v = load(x + i, n, mean) - mean;
    total += v * v;
  });
  return {mean, 1.0f / std::sqrt(simd::sum(total) / count + eps)};
}

template <class T>
MEMO_CLONES void norm_rows(const T* x, const T* weight, const T* bias, T* y, std::int64_t rows, std::int64_t columns,
                           bool layer, float eps) {
  for (std::int64_t r = 0; r < rows; ++r, x += columns, y += columns) {
    const Statistics s = statistics(x, columns, layer, eps);
    for_lanes(columns, [&](std::int64_t i, auto n) MEMO_INLINE {
      Floats v = (load(x + i, n) - s.mean) * s.scale * load(weight + i, n);
      if (bias != nullptr) v += load(bias + i, n);
      store(y + i, v, n);
    });
  }
}

// With xh the normed x and g = d * weight: dx = scale * (g - mean(g) - xh * mean(g * xh)), mean(g) for layer norm only.
template <class T>
MEMO_CLONES void norm_backward_rows(const T* x, const T* weight, T* d, float* d_weight, float* d_bias,
                                    std::int64_t rows, std::int64_t columns, bool layer, float eps) {
  const auto count = static_cast<float>(columns);
  for (std::int64_t r = 0; r < rows; ++r, x += columns, d += columns) {
    const Statistics s = statistics(x, columns, layer, eps);
    Floats sum_g{}, sum_gx{};
    for_lanes(columns, [&](std::int64_t i, auto n) MEMO_INLINE {
      const Floats normed = (load(x + i, n) - s.mean) * s.scale, di = load(d + i, n);
      const Floats g = di * load(weight + i, n);
      sum_g += g;
      sum_gx += g * normed;
      store(d_weight + i, load(d_weight + i, n) + di * normed, n);
      if (d_bias != nullptr) store(d_bias + i, load(d_bias + i, n) + di, n);
    });
    const float mean_g = layer ? simd::sum(sum_g) / count : 0.0f, mean_gx = simd::sum(sum_gx) / count;
    for_lanes(columns, [&](std::int64_t i, auto n) MEMO_INLINE {
      const Floats normed = (load(x + i, n) - s.mean) * s.scale;
      const Floats g = load(d + i, n) * load(weight + i, n);
      store(d + i, (g - mean_g - normed * mean_gx) * s.scale, n);
    });
  }
}

}  // namespace

namespace on_cpu {

void normalise(const at::Tensor& x, const Norm& norm, at::Tensor& y) {
  const std::int64_t columns = x.size(1);
  with_type(x, [&](auto t) {
    using T = decltype(t);
    const T* bias = norm.bias.value.defined() ? in<T>(norm.bias.value) : nullptr;
    for_rows(x.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
      norm_rows(in<T>(x) + begin * columns, in<T>(norm.weight.value), bias, out<T>(y) + begin * columns, end - begin,
                columns, norm.layer, static_cast<float>(norm.eps));
    });
  });
}

void normalise_backward(const at::Tensor& x, const Norm& norm, at::Tensor& d) {
  constexpr std::int64_t chunk = 64;  // rows whose weight gradients are summed together
  const std::int64_t rows = x.size(0), columns = x.size(1), chunks = (rows + chunk - 1) / chunk;
  const bool biased = norm.bias.value.defined();
  const auto floats = at::TensorOptions().dtype(at::kFloat);
  const at::Tensor d_weight = at::empty({chunks, columns}, floats);
  const at::Tensor d_bias = biased ? at::empty({chunks, columns}, floats) : at::Tensor();
  with_type(x, [&](auto t) {
    using T = decltype(t);
    at::parallel_for(0, chunks, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) {
        float* dw = out<float>(d_weight) + c * columns;
        float* db = biased ? out<float>(d_bias) + c * columns : nullptr;
        std::fill_n(dw, columns, 0.0f);
        if (biased) std::fill_n(db, columns, 0.0f);
        const std::int64_t first = c * chunk;
        norm_backward_rows(in<T>(x) + first * columns, in<T>(norm.weight.value), out<T>(d) + first * columns, dw, db,
                           std::min(chunk, rows - first), columns, norm.layer, static_cast<float>(norm.eps));
      }
    });
  });
  at::Tensor weight_gradient = norm.weight.gradient, bias_gradient = norm.bias.gradient;
  add_column_sums(d_weight, weight_gradient);
  if (biased) add_column_sums(d_bias, bias_gradient);
}

}  // namespace on_cpu

void norm_on_cpu(Kernels& table) {
  table.normalise = on_cpu::normalise;
  table.normalise_backward = on_cpu::normalise_backward;
}

}  // namespace memo::libtorch
