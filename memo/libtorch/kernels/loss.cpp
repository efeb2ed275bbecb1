// Cross entropy over rows of logits: loss = log(sum e^(l - m)) + m - l[target], m the row's largest logit.
#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/kernels/rows.h"
#include "memo/libtorch/kernels/simd.h"
#include "memo/libtorch/kernels/table.h"

namespace memo::libtorch {
namespace {

using simd::Floats, simd::for_lanes, simd::load, simd::store;

// Writes the gradient when `scale` is given: scale * (softmax - one at the target), 0 where there is no target.
template <class T>
MEMO_CLONES void cross_entropy_rows(const T* logits, T* gradient, const std::int64_t* targets, float scale,
                                    double* losses, std::int64_t rows, std::int64_t columns) {
  constexpr float least = std::numeric_limits<float>::lowest();
  for (std::int64_t r = 0; r < rows; ++r, logits += columns) {
    T* d = gradient == nullptr ? nullptr : gradient + r * columns;
    const std::int64_t target = targets[r];
    losses[r] = 0;
    if (target < 0) {
      if (d != nullptr) std::memset(static_cast<void*>(d), 0, static_cast<std::size_t>(columns) * sizeof(T));
      continue;
    }
    Floats largest = Floats{} + least;
    for_lanes(columns, [&](std::int64_t i, auto n) MEMO_INLINE {
      const Floats v = load(logits + i, n, least);
      largest = v > largest ? v : largest;
    });
    const float m = simd::max(largest);
    Floats total{};
    for_lanes(columns, [&](std::int64_t i, auto n) MEMO_INLINE { total += simd::exp(load(logits + i, n, least) - m); });
    const float sum = simd::sum(total);
    const float at_target = static_cast<float>(logits[target]) - m;
    losses[r] = std::log(static_cast<double>(sum)) - static_cast<double>(at_target);
    if (d == nullptr) continue;
    const float factor = scale / sum;
    for_lanes(columns, [&](std::int64_t i, auto n)
                           MEMO_INLINE { store(d + i, simd::exp(load(logits + i, n, least) - m) * factor, n); });
    const float p = std::exp(at_target) / sum;
    d[target] = static_cast<T>(scale * (p - 1.0f));
  }
}

void run_loss(const at::Tensor& logits, at::Tensor* gradient, const at::Tensor& targets, double scale, double* losses) {
  const std::int64_t columns = logits.size(1);
  const auto* target = targets.const_data_ptr<std::int64_t>();
  for (std::int64_t r = 0; r < logits.size(0); ++r)
    MEMO_CHECK(target[r] < columns, "a target is below the vocabulary's size");
  with_type(logits, [&](auto t) {
    using T = decltype(t);
    for_rows(logits.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
      cross_entropy_rows(in<T>(logits) + begin * columns, gradient ? out<T>(*gradient) + begin * columns : nullptr,
                         target + begin, static_cast<float>(scale), losses + begin, end - begin, columns);
    });
  });
}

}  // namespace

namespace on_cpu {

void cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& losses) {
  run_loss(logits, nullptr, targets, 1.0, losses.mutable_data_ptr<double>());
}

void cross_entropy_in_place(at::Tensor& logits, const at::Tensor& targets, double scale, const at::Tensor& losses) {
  run_loss(logits, &logits, targets, scale, losses.mutable_data_ptr<double>());
}

}  // namespace on_cpu

void loss_on_cpu(Kernels& table) {
  table.cross_entropy = on_cpu::cross_entropy;
  table.cross_entropy_in_place = on_cpu::cross_entropy_in_place;
}

}  // namespace memo::libtorch
