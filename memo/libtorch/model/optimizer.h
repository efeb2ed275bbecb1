// AdamW (Loshchilov and Hutter, arXiv 1711.05101), clipping by global norm, and the learning rate's schedule. They work
// in place on the caller's tensors and allocate nothing that grows with the model.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "memo/job/job.h"

namespace memo::libtorch {

struct AdamW {
  double lr = 3e-4, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
};

// The outcome of clipping and of the test for finite values, as tensors of a GPU for which the host does not wait:
// gradients are divided by `divisor` first, and nothing changes where `refused` is 1. float32 [1], on the tensors'
// device.
struct Gate {
  std::optional<at::Tensor> divisor, refused;
};

// One step of all parameters, all float32; `step` counts from 1. Weight decay applies where `decays` is true.
void adamw_step(const AdamW& settings, std::int64_t step, const std::vector<at::Tensor>& masters,
                const std::vector<at::Tensor>& gradients, const std::vector<at::Tensor>& first_moments,
                const std::vector<at::Tensor>& second_moments, const std::vector<bool>& decays, const Gate& gate = {});
// The gate from gradients' sums of squares (float64) and the step's loss (float64 [1]). `max_norm` is that of
// clip_gradients, or 0 where some squares are missing.
Gate gate_of(const at::Tensor& squares, const at::Tensor& loss, double max_norm);

// The sum over a float32 tensor, in double; its bits do not depend on the number of threads.
double sum_of_squares(const at::Tensor& tensor);

// Scales float32 gradients whose global norm is `norm` so that it is at most `max_norm` (0: no limit), by
// min(1, max_norm / (norm + 1e-6)) as torch.nn.utils.clip_grad_norm_ does.
void clip_gradients(const std::vector<at::Tensor>& gradients, double norm, double max_norm);

// The learning rate of step 1 .. options.steps: linear up to options.lr during the warm-up steps, then a cosine down to
// options.min_lr_ratio * options.lr at the last step.
double lr_at(const job::TrainOptions& options, std::int64_t step);

}  // namespace memo::libtorch
