// Recognises a loss that is far above those before it.
#pragma once

#include <optional>
#include <span>

namespace memo::libtorch {

struct LossSpike {
  double mean = 0, deviation = 0;  // over the earlier losses
};

// Set when `loss` exceeds the mean of the last 64 finite losses by more than six of their standard deviations. Not set
// with fewer than 16 losses to compare with.
std::optional<LossSpike> loss_spike(std::span<const double> earlier, double loss);

}  // namespace memo::libtorch
