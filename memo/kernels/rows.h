// The mathematics of the GPU's kernels, one row or some values at a time, by the formulas of
// memo/libtorch/kernels/kernels.h. T is the type of elements in memory, float or a bfloat16; sums and products are
// float. `n`: values of an access (pack.h). Within a row, indices have 32 bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "memo/kernels/pack.h"
#include "memo/kernels/team.h"

namespace memo::kernels {

struct Statistics {
  float mean, scale;  // the normed value is (x - mean) * scale
};

// Statistics of a row. `layer`: layer norm, whose mean is computed; RMS norm takes it as 0.
template <int n, class Team, class T>
MEMO_BOTH Statistics statistics(const Team& team, const T* x, int columns, bool layer, float eps) {
  float mean = 0, total = 0;
  if (layer) {
    for (int i = team.lane() * n; i < columns; i += team.lanes() * n) {
      const Pack<float, n> v = floats_at<n>(x + i);
      for (int k = 0; k < n; ++k) total += v.values[k];
    }
    mean = team.sum(total) / static_cast<float>(columns);
    total = 0;
  }
  for (int i = team.lane() * n; i < columns; i += team.lanes() * n) {
    const Pack<float, n> at = floats_at<n>(x + i);
    for (int k = 0; k < n; ++k) {
      const float v = at.values[k] - mean;
      total += v * v;
    }
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

template <int n, class Team, class T>
MEMO_BOTH void norm_row(const Team& team, const T* x, const T* weight, const T* bias, T* y, int columns, bool layer,
                        float eps) {
  const Statistics s = statistics<n>(team, x, columns, layer, eps);
  for (int i = team.lane() * n; i < columns; i += team.lanes() * n) {
    Pack<float, n> v = floats_at<n>(x + i);
    const Pack<float, n> w = floats_at<n>(weight + i);
    for (int k = 0; k < n; ++k) v.values[k] = (v.values[k] - s.mean) * s.scale * w.values[k];
    if (bias != nullptr) {
      const Pack<float, n> b = floats_at<n>(bias + i);
      for (int k = 0; k < n; ++k) v.values[k] += b.values[k];
    }
    put(y + i, v);
  }
}

// Columns i to i + n - 1 of the gradients of weight and bias (d_bias null: no bias), summed over `rows` rows of d and
// x.
template <int n, class T>
MEMO_BOTH void norm_columns(const T* x, const T* d, const Statistics* of_rows, int rows, int columns, int i,
                            float* d_weight, float* d_bias) {
  Pack<float, n> weight{}, bias{};
  for (int r = 0; r < rows; ++r) {
    const std::int64_t at = std::int64_t{r} * columns + i;
    const Pack<float, n> g = floats_at<n>(d + at), v = floats_at<n>(x + at);
    for (int k = 0; k < n; ++k) {
      weight.values[k] += g.values[k] * ((v.values[k] - of_rows[r].mean) * of_rows[r].scale);
      bias.values[k] += g.values[k];
    }
  }
  put(d_weight + i, weight);
  if (d_bias != nullptr) put(d_bias + i, bias);
}

// With xh the normed x and g = d * weight: d becomes scale * (g - mean(g) - xh * mean(g * xh)), mean(g) for layer norm.
template <int n, class Team, class T>
MEMO_BOTH void norm_backward_row(const Team& team, const T* x, const T* weight, T* d, const Statistics& s, int columns,
                                 bool layer) {
  float sum_g = 0, sum_gx = 0;
  for (int i = team.lane() * n; i < columns; i += team.lanes() * n) {
    const Pack<float, n> dv = floats_at<n>(d + i), w = floats_at<n>(weight + i), v = floats_at<n>(x + i);
    for (int k = 0; k < n; ++k) {
      const float g = dv.values[k] * w.values[k];
      sum_g += g;
      sum_gx += g * ((v.values[k] - s.mean) * s.scale);
    }
  }
  const auto count = static_cast<float>(columns);
  const float mean_g = layer ? team.sum(sum_g) / count : 0.0f, mean_gx = team.sum(sum_gx) / count;
  for (int i = team.lane() * n; i < columns; i += team.lanes() * n) {
    Pack<float, n> dv = floats_at<n>(d + i);
    const Pack<float, n> w = floats_at<n>(weight + i), v = floats_at<n>(x + i);
    for (int k = 0; k < n; ++k) {
      const float normed = (v.values[k] - s.mean) * s.scale;
      const float g = dv.values[k] * w.values[k];
      dv.values[k] = (g - mean_g - normed * mean_gx) * s.scale;
    }
    put(d + i, dv);
  }
}

MEMO_BOTH inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// n values of a row of the activation, and of the row's gate and up.
template <int n, class T>
MEMO_BOTH void silu_values(const T* gate, const T* up, T* a) {
  Pack<float, n> v = floats_at<n>(gate);
  const Pack<float, n> u = floats_at<n>(up);
  for (int k = 0; k < n; ++k) v.values[k] = v.values[k] * sigmoid(v.values[k]) * u.values[k];
  put(a, v);
}

template <int n, class T>
MEMO_BOTH void silu_backward_values(const T* gate, const T* up, T* a, T* d_gate, T* d_up) {
  const Pack<float, n> g = floats_at<n>(gate), u = floats_at<n>(up);
  Pack<float, n> da = floats_at<n>(a), result, dg, du;
  for (int k = 0; k < n; ++k) {
    const float s = sigmoid(g.values[k]), silu = g.values[k] * s;
    result.values[k] = silu * u.values[k];
    dg.values[k] = da.values[k] * u.values[k] * (s + silu * (1.0f - s));
    du.values[k] = da.values[k] * silu;
  }
  put(a, result);
  put(d_gate, dg);
  put(d_up, du);
}

// gelu_new: x sigmoid(z), z = 2 sqrt(2/pi) (x + 0.044715 x^3).
constexpr float gelu_scale = 1.5957691216057308f, gelu_cubic = 0.044715f;

template <int n, class T>
MEMO_BOTH void gelu_values(const T* h, T* a) {
  Pack<float, n> v = floats_at<n>(h);
  for (int k = 0; k < n; ++k) {
    const float x = v.values[k];
    v.values[k] = x * sigmoid(gelu_scale * (x + gelu_cubic * x * x * x));
  }
  put(a, v);
}

template <int n, class T>
MEMO_BOTH void gelu_backward_values(const T* h, T* a, T* dh) {
  const Pack<float, n> v = floats_at<n>(h);
  Pack<float, n> da = floats_at<n>(a), result;
  for (int k = 0; k < n; ++k) {
    const float x = v.values[k], s = sigmoid(gelu_scale * (x + gelu_cubic * x * x * x));
    result.values[k] = x * s;
    da.values[k] *= s + x * s * (1.0f - s) * gelu_scale * (1.0f + 3.0f * gelu_cubic * x * x);
  }
  put(a, result);
  put(dh, da);
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
  int dim;
  MEMO_BOTH void turn(int j, float& cosine, float& sine) const {
    if (frequencies == nullptr) return void(cosine = 1.0f), void(sine = 0.0f);
    const float angle = static_cast<float>(position) * frequencies[j];
    cosine = rotation_scale * std::cos(angle);
    sine = rotation_scale * std::sin(angle);
  }
};

// The values j to j + n - 1 of each half of a head, normed where there is a norm.
template <int n, class T>
MEMO_BOTH void normed_halves(const Head<T>& head, const T* x, float scale, int j, Pack<float, n>& a,
                             Pack<float, n>& b) {
  const int half = head.dim / 2;
  a = floats_at<n>(x + j), b = floats_at<n>(x + half + j);
  if (head.weight == nullptr) return;
  const Pack<float, n> wa = floats_at<n>(head.weight + j), wb = floats_at<n>(head.weight + half + j);
  for (int k = 0; k < n; ++k) {
    a.values[k] = a.values[k] * scale * wa.values[k];
    b.values[k] = b.values[k] * scale * wb.values[k];
  }
}

template <int n, class Team, class T>
MEMO_BOTH void turn_head(const Team& team, const Head<T>& head, const T* x, T* y) {
  const int half = head.dim / 2;
  const float scale = head.weight == nullptr ? 1.0f : statistics<n>(team, x, head.dim, false, head.eps).scale;
  for (int j = team.lane() * n; j < half; j += team.lanes() * n) {
    Pack<float, n> a, b;
    normed_halves(head, x, scale, j, a, b);
    for (int k = 0; k < n; ++k) {
      float c = 0, s = 0;
      head.turn(j + k, c, s);
      const float first = a.values[k], second = b.values[k];
      a.values[k] = first * c - second * s;
      b.values[k] = second * c + first * s;
    }
    put(y + j, a);
    put(y + half + j, b);
  }
}

// dx from d of turn_head's result; with a norm, also d_weight [dim] of this head and row.
template <int n, class Team, class T>
MEMO_BOTH void turn_head_backward(const Team& team, const Head<T>& head, const T* d, const T* x, T* dx,
                                  float* d_weight) {
  const int half = head.dim / 2;
  const float scale = head.weight == nullptr ? 1.0f : statistics<n>(team, x, head.dim, false, head.eps).scale;
  float total = 0;
  for (int pass = head.weight == nullptr ? 1 : 0; pass < 2; ++pass) {
    const float mean = pass == 1 && head.weight != nullptr ? team.sum(total) / static_cast<float>(head.dim) : 0.0f;
    for (int j = team.lane() * n; j < half; j += team.lanes() * n) {
      const Pack<float, n> da = floats_at<n>(d + j), db = floats_at<n>(d + half + j);
      Pack<float, n> a, b;
      for (int k = 0; k < n; ++k) {
        float c = 0, s = 0;
        head.turn(j + k, c, s);
        a.values[k] = da.values[k] * c + db.values[k] * s;
        b.values[k] = db.values[k] * c - da.values[k] * s;
      }
      if (head.weight == nullptr) {
        put(dx + j, a);
        put(dx + half + j, b);
        continue;
      }
      const Pack<float, n> xa = floats_at<n>(x + j), xb = floats_at<n>(x + half + j);
      const Pack<float, n> wa = floats_at<n>(head.weight + j), wb = floats_at<n>(head.weight + half + j);
      Pack<float, n> first, second;
      for (int k = 0; k < n; ++k) {
        const float va = xa.values[k] * scale, vb = xb.values[k] * scale;
        const float ga = a.values[k] * wa.values[k], gb = b.values[k] * wb.values[k];
        if (pass == 0) {
          first.values[k] = a.values[k] * va;
          second.values[k] = b.values[k] * vb;
          total += ga * va + gb * vb;
        } else {
          first.values[k] = (ga - va * mean) * scale;
          second.values[k] = (gb - vb * mean) * scale;
        }
      }
      if (pass == 0) {
        put(d_weight + j, first);
        put(d_weight + half + j, second);
      } else {
        put(dx + j, first);
        put(dx + half + j, second);
      }
    }
  }
}

// loss = log(sum e^(l - m)) + m - l[target], 0 where target < 0; logits become scale * its gradient if `in_place`.
template <int n, class Team, class T>
MEMO_BOTH void cross_entropy_row(const Team& team, T* logits, std::int64_t target, int columns, bool in_place,
                                 float scale, double* loss) {
  if (target < 0) {
    if (team.lane() == 0) *loss = 0;
    for (int i = team.lane() * n; in_place && i < columns; i += team.lanes() * n) put(logits + i, Pack<float, n>{});
    return;
  }
  float m = -INFINITY, total = 0;
  for (int i = team.lane() * n; i < columns; i += team.lanes() * n) {
    const Pack<float, n> l = floats_at<n>(logits + i);
    for (int k = 0; k < n; ++k) m = std::fmax(m, l.values[k]);
  }
  m = team.max(m);
  for (int i = team.lane() * n; i < columns; i += team.lanes() * n) {
    const Pack<float, n> l = floats_at<n>(logits + i);
    for (int k = 0; k < n; ++k) total += std::exp(l.values[k] - m);
  }
  const float at_target = static_cast<float>(logits[target]) - m;  // read before any lane writes
  const float sum = team.sum(total);
  if (team.lane() == 0) *loss = std::log(static_cast<double>(sum)) - static_cast<double>(at_target);
  if (!in_place) return;
  for (int i = team.lane() * n; i < columns; i += team.lanes() * n) {
    Pack<float, n> l = floats_at<n>(logits + i);
    for (int k = 0; k < n; ++k) {
      const float p = std::exp(l.values[k] - m) / sum;
      l.values[k] = scale * (i + k == target ? p - 1.0f : p);
    }
    put(logits + i, l);
  }
}

}  // namespace memo::kernels
