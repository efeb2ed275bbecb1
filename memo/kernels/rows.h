// The mathematics of the GPU's kernels, one row or value at a time, by the formulas of memo/libtorch/kernels/kernels.h.
// T is the type of elements in memory, float or a bfloat16; sums and products are float.
#pragma once

#include <cmath>
#include <cstdint>

#include "memo/kernels/team.h"

namespace memo::kernels {

struct Statistics {
  float mean, scale;  // the normed value is (x - mean) * scale
};

// Statistics of a row. `layer`: layer norm, whose mean is computed; RMS norm takes it as 0.
template <class Team, class T>
MEMO_BOTH Statistics statistics(const Team& team, const T* x, std::int64_t columns, bool layer, float eps) {
  float mean = 0, total = 0;
  if (layer) {
    for (std::int64_t i = team.lane(); i < columns; i += team.lanes()) total += static_cast<float>(x[i]);
    mean = team.sum(total) / static_cast<float>(columns);
    total = 0;
  }
  for (std::int64_t i = team.lane(); i < columns; i += team.lanes()) {
    const float v = static_cast<float>(x[i]) - mean;
    total += v * v;
  }
  return {mean, 1.0f / std::sqrt(team.sum(total) / static_cast<float>(columns) + eps)};
}

// Of `parts` parts of x, interleaved, number `part`.
MEMO_BOTH inline double sum_of_squares(const float* x, std::int64_t count, std::int64_t part, std::int64_t parts) {
  double sum = 0;
  for (std::int64_t i = part; i < count; i += parts) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

// Words of memory at equal distances.
struct Words {
  const std::uint64_t* first;
  std::int64_t stride, count;
  MEMO_BOTH bool is_ones(std::int64_t i) const { return first[i * stride] == ~std::uint64_t{0}; }
};

template <class Team, class T>
MEMO_BOTH void norm_row(const Team& team, const T* x, const T* weight, const T* bias, T* y, std::int64_t columns,
                        bool layer, float eps) {
  const Statistics s = statistics(team, x, columns, layer, eps);
  for (std::int64_t i = team.lane(); i < columns; i += team.lanes()) {
    const float v = (static_cast<float>(x[i]) - s.mean) * s.scale * static_cast<float>(weight[i]);
    y[i] = static_cast<T>(bias == nullptr ? v : v + static_cast<float>(bias[i]));
  }
}

// Column i of the gradients of weight and bias (d_bias null: no bias), summed over `rows` rows of d and x.
template <class T>
MEMO_BOTH void norm_column(const T* x, const T* d, const Statistics* of_rows, std::int64_t rows, std::int64_t columns,
                           std::int64_t i, float* d_weight, float* d_bias) {
  float weight = 0, bias = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const float g = static_cast<float>(d[r * columns + i]);
    weight += g * ((static_cast<float>(x[r * columns + i]) - of_rows[r].mean) * of_rows[r].scale);
    bias += g;
  }
  d_weight[i] = weight;
  if (d_bias != nullptr) d_bias[i] = bias;
}

// With xh the normed x and g = d * weight: d becomes scale * (g - mean(g) - xh * mean(g * xh)), mean(g) for layer norm.
template <class Team, class T>
MEMO_BOTH void norm_backward_row(const Team& team, const T* x, const T* weight, T* d, const Statistics& s,
                                 std::int64_t columns, bool layer) {
  float sum_g = 0, sum_gx = 0;
  for (std::int64_t i = team.lane(); i < columns; i += team.lanes()) {
    const float g = static_cast<float>(d[i]) * static_cast<float>(weight[i]);
    sum_g += g;
    sum_gx += g * ((static_cast<float>(x[i]) - s.mean) * s.scale);
  }
  const auto count = static_cast<float>(columns);
  const float mean_g = layer ? team.sum(sum_g) / count : 0.0f, mean_gx = team.sum(sum_gx) / count;
  for (std::int64_t i = team.lane(); i < columns; i += team.lanes()) {
    const float normed = (static_cast<float>(x[i]) - s.mean) * s.scale;
    const float g = static_cast<float>(d[i]) * static_cast<float>(weight[i]);
    d[i] = static_cast<T>((g - mean_g - normed * mean_gx) * s.scale);
  }
}

MEMO_BOTH inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// Value i of row `row`; h is [.., 2 columns] gate|up.
template <class T>
MEMO_BOTH void silu_value(const T* h, T* a, std::int64_t columns, std::int64_t row, std::int64_t i) {
  const float gate = static_cast<float>(h[row * 2 * columns + i]);
  a[row * columns + i] = static_cast<T>(gate * sigmoid(gate) * static_cast<float>(h[(row * 2 + 1) * columns + i]));
}

template <class T>
MEMO_BOTH void silu_backward_value(const T* h, T* a, T* dh, std::int64_t columns, std::int64_t row, std::int64_t i) {
  const std::int64_t at = row * 2 * columns + i, up_at = at + columns;
  const float gate = static_cast<float>(h[at]), up = static_cast<float>(h[up_at]);
  const float da = static_cast<float>(a[row * columns + i]), s = sigmoid(gate), silu = gate * s;
  a[row * columns + i] = static_cast<T>(silu * up);
  dh[at] = static_cast<T>(da * up * (s + silu * (1.0f - s)));
  dh[up_at] = static_cast<T>(da * silu);
}

// gelu_new: x sigmoid(z), z = 2 sqrt(2/pi) (x + 0.044715 x^3).
constexpr float gelu_scale = 1.5957691216057308f, gelu_cubic = 0.044715f;

template <class T>
MEMO_BOTH void gelu_value(const T* h, T* a, std::int64_t i) {
  const float x = static_cast<float>(h[i]);
  a[i] = static_cast<T>(x * sigmoid(gelu_scale * (x + gelu_cubic * x * x * x)));
}

template <class T>
MEMO_BOTH void gelu_backward_value(const T* h, T* a, T* dh, std::int64_t i) {
  const float x = static_cast<float>(h[i]), da = static_cast<float>(a[i]);
  const float s = sigmoid(gelu_scale * (x + gelu_cubic * x * x * x));
  a[i] = static_cast<T>(x * s);
  dh[i] = static_cast<T>(da * (s + x * s * (1.0f - s) * gelu_scale * (1.0f + 3.0f * gelu_cubic * x * x)));
}

// Turns one head of one row. Pairs are (j, j + dim / 2), angles float32 products of position and frequency. `weight`:
// the head's RMS norm, or null; `frequencies` null: no rotation.
template <class T>
struct Head {
  const float* frequencies;
  float rotation_scale;  // factor of cosine and sine
  std::int64_t position;
  const T* weight;
  float eps;
  std::int64_t dim;
  MEMO_BOTH void turn(std::int64_t j, float& cosine, float& sine) const {
    if (frequencies == nullptr) return void(cosine = 1.0f), void(sine = 0.0f);
    const float angle = static_cast<float>(position) * frequencies[j];
    cosine = rotation_scale * std::cos(angle);
    sine = rotation_scale * std::sin(angle);
  }
};

template <class Team, class T>
MEMO_BOTH void turn_head(const Team& team, const Head<T>& head, const T* x, T* y) {
  const std::int64_t half = head.dim / 2;
  const float scale = head.weight == nullptr ? 1.0f : statistics(team, x, head.dim, false, head.eps).scale;
  for (std::int64_t j = team.lane(); j < half; j += team.lanes()) {
    float a = static_cast<float>(x[j]), b = static_cast<float>(x[half + j]), c = 0, s = 0;
    if (head.weight != nullptr) {
      a = a * scale * static_cast<float>(head.weight[j]);
      b = b * scale * static_cast<float>(head.weight[half + j]);
    }
    head.turn(j, c, s);
    y[j] = static_cast<T>(a * c - b * s);
    y[half + j] = static_cast<T>(b * c + a * s);
  }
}

// dx from d of turn_head's result; with a norm, also d_weight [dim] of this head and row.
template <class Team, class T>
MEMO_BOTH void turn_head_backward(const Team& team, const Head<T>& head, const T* d, const T* x, T* dx,
                                  float* d_weight) {
  const std::int64_t half = head.dim / 2;
  const float scale = head.weight == nullptr ? 1.0f : statistics(team, x, head.dim, false, head.eps).scale;
  float total = 0;
  for (int pass = head.weight == nullptr ? 1 : 0; pass < 2; ++pass) {
    const float mean = pass == 1 && head.weight != nullptr ? team.sum(total) / static_cast<float>(head.dim) : 0.0f;
    for (std::int64_t j = team.lane(); j < half; j += team.lanes()) {
      float c = 0, s = 0;
      head.turn(j, c, s);
      const float da = static_cast<float>(d[j]), db = static_cast<float>(d[half + j]);
      const float a = da * c + db * s, b = db * c - da * s;
      if (head.weight == nullptr) {
        dx[j] = static_cast<T>(a);
        dx[half + j] = static_cast<T>(b);
        continue;
      }
      const float xa = static_cast<float>(x[j]) * scale, xb = static_cast<float>(x[half + j]) * scale;
      const float ga = a * static_cast<float>(head.weight[j]), gb = b * static_cast<float>(head.weight[half + j]);
      if (pass == 0) {
        d_weight[j] = a * xa;
        d_weight[half + j] = b * xb;
        total += ga * xa + gb * xb;
      } else {
        dx[j] = static_cast<T>((ga - xa * mean) * scale);
        dx[half + j] = static_cast<T>((gb - xb * mean) * scale);
      }
    }
  }
}

// loss = log(sum e^(l - m)) + m - l[target], 0 where target < 0; logits become scale * its gradient if `in_place`.
template <class Team, class T>
MEMO_BOTH void cross_entropy_row(const Team& team, T* logits, std::int64_t target, std::int64_t columns, bool in_place,
                                 float scale, double* loss) {
  if (target < 0) {
    if (team.lane() == 0) *loss = 0;
    for (std::int64_t i = team.lane(); in_place && i < columns; i += team.lanes()) logits[i] = static_cast<T>(0.0f);
    return;
  }
  float m = -INFINITY, total = 0;
  for (std::int64_t i = team.lane(); i < columns; i += team.lanes()) m = std::fmax(m, static_cast<float>(logits[i]));
  m = team.max(m);
  for (std::int64_t i = team.lane(); i < columns; i += team.lanes())
    total += std::exp(static_cast<float>(logits[i]) - m);
  const float at_target = static_cast<float>(logits[target]) - m;  // read before any lane writes
  const float sum = team.sum(total);
  if (team.lane() == 0) *loss = std::log(static_cast<double>(sum)) - static_cast<double>(at_target);
  if (!in_place) return;
  for (std::int64_t i = team.lane(); i < columns; i += team.lanes()) {
    const float p = std::exp(static_cast<float>(logits[i]) - m) / sum;
    logits[i] = static_cast<T>(scale * (i == target ? p - 1.0f : p));
  }
}

}  // namespace memo::kernels
