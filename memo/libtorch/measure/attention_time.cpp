// The fit of attention's time to measured lengths.
#include "memo/libtorch/measure/attention_time.h"

namespace memo::libtorch {

double pairs_seen(double tokens, double window) {
  if (window == 0 || tokens <= window) return tokens * tokens / 2;
  return window * tokens - window * window / 2;
}

double attention_seconds(const std::vector<std::pair<Length, double>>& measured, Length length) {
  double s_nn = 0, s_nm = 0, s_mm = 0, s_n = 0, s_m = 0;
  for (const auto& [n, t] : measured) {
    const double u = n.tokens / t, v = n.pairs / t;  // the equation a u + b v = 1
    s_nn += u * u, s_nm += u * v, s_mm += v * v, s_n += u, s_m += v;
  }
  const double determinant = s_nn * s_mm - s_nm * s_nm;
  double a = 0, b = s_m / s_mm;
  if (measured.size() > 1 && determinant > 1e-12 * s_nn * s_mm) {
    a = (s_n * s_mm - s_m * s_nm) / determinant;
    b = (s_m * s_nn - s_n * s_nm) / determinant;
    if (a < 0) a = 0, b = s_m / s_mm;
    if (b < 0) b = 0, a = s_n / s_nn;
  }
  return a * length.tokens + b * length.pairs;
}

}  // namespace memo::libtorch
