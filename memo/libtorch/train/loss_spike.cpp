// Mean and deviation of the last finite losses.
#include "memo/libtorch/train/loss_spike.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace memo::libtorch {

std::optional<LossSpike> loss_spike(std::span<const double> earlier, double loss) {
  constexpr std::size_t window = 64, least = 16;
  constexpr double deviations = 6;
  double count = 0, sum = 0, squares = 0;
  for (const double value : earlier.last(std::min(earlier.size(), window))) {
    if (!std::isfinite(value)) continue;
    ++count;
    sum += value;
    squares += value * value;
  }
  if (count < least || !std::isfinite(loss)) return std::nullopt;
  const double mean = sum / count, deviation = std::sqrt(std::max(0.0, squares / count - mean * mean));
  if (loss <= mean + deviations * deviation) return std::nullopt;
  return LossSpike{mean, deviation};
}

}  // namespace memo::libtorch
