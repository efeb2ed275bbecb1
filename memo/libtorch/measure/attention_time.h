// The time of causal attention at lengths that were not measured.
#pragma once

#include <utility>
#include <vector>

namespace memo::libtorch {

// How long a row of tokens is, and how many pairs of query and key attention sees in it.
struct Length {
  double tokens = 0, pairs = 0;
};

// Of one document; a query sees `window` keys at most (0: all).
double pairs_seen(double tokens, double window);

// t = a tokens + b pairs through the measured lengths (least squares, relative errors), neither negative.
double attention_seconds(const std::vector<std::pair<Length, double>>& measured, Length length);

}  // namespace memo::libtorch
