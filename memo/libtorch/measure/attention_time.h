// The time of causal attention at lengths that were not measured.
#pragma once

#include <utility>
#include <vector>

namespace memo::libtorch {

// The length of a row of tokens, and the number of pairs of query and key that attention sees in it.
struct Length {
  double tokens = 0, pairs = 0;
};

// Pairs seen in one document of so many tokens; a query sees at most `window` keys (0: all).
double pairs_seen(double tokens, double window);

// t = a tokens + b pairs, fitted to the measured lengths (least squares of relative errors), a and b not negative.
double attention_seconds(const std::vector<std::pair<Length, double>>& measured, Length length);

}  // namespace memo::libtorch
