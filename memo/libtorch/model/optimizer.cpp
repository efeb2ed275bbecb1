// AdamW by LibTorch's fused kernel, and sums whose bits do not depend on threads.
#include "memo/libtorch/model/optimizer.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "memo/base/check.h"
#include "memo/libtorch/kernels/kernels.h"

namespace memo::libtorch {

Gate gate_of(const at::Tensor& squares, const at::Tensor& loss, double max_norm) {
  const at::Tensor norm = squares.sum().sqrt().reshape({1});
  Gate gate{{}, (norm + loss).isfinite().logical_not().to(at::kFloat)};
  if (max_norm > 0) gate.divisor = ((norm + 1e-6) / max_norm).clamp_min(1).to(at::kFloat);
  return gate;
}

double sum_of_squares(const at::Tensor& tensor) {
  double sum = 0;
  sum_squares(tensor, {}, at::from_blob(&sum, {1}, at::kDouble));
  return sum;
}

void adamw_step(const AdamW& settings, std::int64_t step, const std::vector<at::Tensor>& masters,
                const std::vector<at::Tensor>& gradients, const std::vector<at::Tensor>& first_moments,
                const std::vector<at::Tensor>& second_moments, const std::vector<bool>& decays, const Gate& gate) {
  const std::size_t count = masters.size();
  MEMO_CHECK(gradients.size() == count && first_moments.size() == count && second_moments.size() == count &&
                 decays.size() == count,
             "every parameter has a gradient, two moments and a decay");
  const at::AutoDispatchBelowADInplaceOrView plain;
  if (masters.empty()) return;
  const at::Tensor steps = at::full({}, static_cast<double>(step), at::dtype(at::kFloat).device(masters[0].device()));
  for (const bool decay : {true, false}) {
    std::vector<at::Tensor> values, grads, first, second, step_of;
    for (std::size_t i = 0; i < count; ++i) {
      if (decays[i] != decay) continue;
      values.push_back(masters[i]);
      grads.push_back(gradients[i]);
      first.push_back(first_moments[i]);
      second.push_back(second_moments[i]);
      step_of.push_back(steps);
    }
    if (values.empty()) continue;
    at::_fused_adamw_(values, grads, first, second, {}, step_of, settings.lr, settings.beta1, settings.beta2,
                      decay ? settings.weight_decay : 0.0, settings.eps, /*amsgrad=*/false, /*maximize=*/false,
                      gate.divisor, gate.refused);
  }
}

void clip_gradients(const std::vector<at::Tensor>& gradients, double norm, double max_norm) {
  const double scale = max_norm / (norm + 1e-6);
  if (max_norm <= 0 || scale >= 1) return;
  // Like Tensor::mul_ of a float32 tensor by a double, but without a scalar tensor on the heap.
  const auto factor = static_cast<float>(scale);
  for (const at::Tensor& gradient : gradients) {
    auto* data = gradient.data_ptr<float>();
    at::parallel_for(0, gradient.numel(), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) data[i] *= factor;
    });
  }
}

double lr_at(const job::TrainOptions& options, std::int64_t step) {
  const auto at = static_cast<double>(step), warm = static_cast<double>(options.warmup_steps);
  if (at < warm) return options.lr * at / warm;
  const double span = static_cast<double>(options.steps) - warm;
  const double progress = span > 0 ? std::clamp((at - warm) / span, 0.0, 1.0) : 1.0;
  const double least = options.lr * options.min_lr_ratio;
  return least + (options.lr - least) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

}  // namespace memo::libtorch
