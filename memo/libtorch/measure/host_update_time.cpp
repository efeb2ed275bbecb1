// Times the optimizer on tensors of the CPU.
#include "memo/libtorch/measure/host_update_time.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "memo/base/median.h"
#include "memo/libtorch/model/model_state.h"
#include "memo/libtorch/model/optimizer.h"

namespace memo::libtorch {

Seconds host_update_seconds(const model::Shape& shape, job::DType dtype, model::SegmentRole role) {
  constexpr std::int64_t most = 16'000'000;
  const auto stage = role == model::SegmentRole::host_update_before ? model::Stage::before : model::Stage::after;
  const auto element_bytes = static_cast<int>(c10::elementSize(scalar_type(dtype)));
  const Bytes gradients = model::state_bytes(shape, element_bytes, model::LayerIndex(0), stage).gradients;
  const std::int64_t parameters = gradients.value() / std::int64_t{sizeof(float)};
  const auto made = [&](at::ScalarType type) { return at::full({std::min(parameters, most)}, 0.5, type); };
  const at::Tensor master = made(at::kFloat), gradient = made(at::kFloat), first = made(at::kFloat),
                   second = made(at::kFloat), value = made(scalar_type(dtype));
  std::vector<double> seconds;
  for (int step = 1; step <= 4; ++step) {  // the first is not counted: it is the first to touch code and caches
    const auto start = std::chrono::steady_clock::now();
    adamw_step({}, step, {master}, {gradient}, {first}, {second}, {true});
    if (dtype == job::DType::bfloat16) value.copy_(master);
    if (step > 1) seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return Seconds(median(seconds) * static_cast<double>(parameters) / static_cast<double>(master.numel()));
}

}  // namespace memo::libtorch
