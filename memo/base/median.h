// The median of measurements.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace memo {

// Takes at least one value; of an even number, returns the upper middle.
inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace memo
