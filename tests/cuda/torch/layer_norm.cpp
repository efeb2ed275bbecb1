// Layer norm as CUDA has it: statistics of rows are float32 whatever the rows are, where the CPU's kernel has them in
// the type of the rows (aten/src/ATen/native/cuda/layer_norm_kernel.cu).
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;

Tensor given(const Maybe& tensor) { return tensor ? *tensor : Tensor(); }
Tensor there(const Tensor& tensor) { return tensor.defined() ? on_host(tensor) : tensor; }
Maybe floats(const Tensor& tensor) { return tensor.defined() ? Maybe(tensor.to(at::kFloat)) : Maybe(); }

Three layer_norm(const Tensor& rows, c10::SymIntArrayRef shape, const Maybe& weight, const Maybe& bias, double eps) {
  const Current current(rows.device());
  const Tensor x = rows.contiguous();
  const auto sizes = C10_AS_INTARRAYREF_SLOW(shape).vec();
  std::vector<std::int64_t> of_rows = x.sizes().vec();
  std::fill(of_rows.end() - static_cast<std::ptrdiff_t>(sizes.size()), of_rows.end(), 1);
  const Tensor y = at::empty_like(x), mean = at::empty(of_rows, x.options().dtype(at::kFloat));
  const Tensor scale = at::empty_like(mean);
  enqueue(x, "aten::native_layer_norm",
          [x = on_host(x), weight = there(given(weight)), bias = there(given(bias)), sizes, eps, y = on_host(y),
           mean = on_host(mean), scale = on_host(scale)] {
            const auto [of_y, of_mean, of_scale] =
                at::native_layer_norm(x.to(at::kFloat), sizes, floats(weight), floats(bias), eps);
            y.copy_(of_y), mean.copy_(of_mean.view_as(mean)), scale.copy_(of_scale.view_as(scale));
          });
  return {y, mean, scale};
}

Three layer_norm_backward(const Tensor& d, const Tensor& rows, c10::SymIntArrayRef shape, const Tensor& mean,
                          const Tensor& scale, const Maybe& weight, const Maybe& bias, std::array<bool, 3> wanted) {
  const Current current(rows.device());
  const Tensor of_d = d.contiguous(), x = rows.contiguous();
  const auto sizes = C10_AS_INTARRAYREF_SLOW(shape).vec();
  std::array<Tensor, 3> results;
  const std::array<Tensor, 3> like{x, given(weight), given(bias)};
  for (std::size_t i = 0; i < 3; ++i)
    if (wanted[i] && like[i].defined()) results[i] = at::empty_like(like[i]);
  enqueue(x, "aten::native_layer_norm_backward",
          [d = on_host(of_d), x = on_host(x), sizes, mean = on_host(mean), scale = on_host(scale),
           weight = there(like[1]), bias = there(like[2]), wanted,
           to = std::array<Tensor, 3>{there(results[0]), there(results[1]), there(results[2])}] {
            const auto [of_x, of_weight, of_bias] = at::native_layer_norm_backward(
                d.to(at::kFloat), x.to(at::kFloat), sizes, mean, scale, floats(weight), floats(bias), wanted);
            const std::array<Tensor, 3> from{of_x, of_weight, of_bias};
            for (std::size_t i = 0; i < 3; ++i)
              if (to[i].defined()) to[i].copy_(from[i]);
          });
  return {results[0], results[1], results[2]};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("native_layer_norm", &layer_norm);
  m.impl("native_layer_norm_backward", &layer_norm_backward);
}

}  // namespace memo::cuda::emulated
