// Medians of the times of several works in one run, taken in turns.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <vector>

namespace memo {

inline double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Median seconds of each, after one round that is not counted. In a round every work runs once, in order.
inline std::vector<double> interleaved(int rounds, const std::vector<std::function<void()>>& works) {
  std::vector<std::vector<double>> times(works.size());
  for (int round = -1; round < rounds; ++round)
    for (std::size_t i = 0; i < works.size(); ++i)
      if (const double time = seconds(works[i]); round >= 0) times[i].push_back(time);
  std::vector<double> medians;
  for (std::vector<double>& some : times) {
    std::nth_element(some.begin(), some.begin() + static_cast<std::ptrdiff_t>(some.size() / 2), some.end());
    medians.push_back(some[some.size() / 2]);
  }
  return medians;
}

}  // namespace memo
