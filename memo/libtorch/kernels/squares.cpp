// Sums of squares on the CPU, by chunks of a fixed size.
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "memo/libtorch/kernels/table.h"

namespace memo::libtorch {
namespace on_cpu {

void sum_squares(const at::Tensor& tensor, const at::Tensor&, const at::Tensor& result) {
  constexpr std::int64_t chunk = 1 << 16, lanes = 8;
  const auto* data = tensor.const_data_ptr<float>();
  const std::int64_t count = tensor.numel();
  std::vector<double> sums(static_cast<std::size_t>((count + chunk - 1) / chunk));
  at::parallel_for(0, static_cast<std::int64_t>(sums.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      const std::int64_t stop = std::min(count, (c + 1) * chunk);
      double lane[lanes] = {};  // independent sums, so that additions need not wait for each other
      std::int64_t i = c * chunk;
      for (; i + lanes <= stop; i += lanes)
        for (std::int64_t j = 0; j < lanes; ++j) lane[j] += static_cast<double>(data[i + j]) * data[i + j];
      for (; i < stop; ++i) lane[0] += static_cast<double>(data[i]) * data[i];
      double& sum = sums[static_cast<std::size_t>(c)];
      for (const double value : lane) sum += value;
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  *result.mutable_data_ptr<double>() = total;
}

}  // namespace on_cpu

void squares_on_cpu(Kernels& table) { table.sum_squares = on_cpu::sum_squares; }

}  // namespace memo::libtorch
