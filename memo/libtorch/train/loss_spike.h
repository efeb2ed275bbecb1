// When a loss is to be looked at.
#pragma once

#include <optional>
#include <span>

namespace memo::libtorch {

struct LossSpike {
  double mean = 0, deviation = 0;  // of the losses it is compared with
};

// `loss` is above the mean of the last 64 losses, finite ones, by more than six of their standard deviations. Nothing
// with less than 16 to compare with.
std::optional<LossSpike> loss_spike(std::span<const double> earlier, double loss);

}  // namespace memo::libtorch
