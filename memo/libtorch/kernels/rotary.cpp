// Moves queries, keys and values between the projection's layout and the head groups': norms each head, rotates,
// splits. Angles are computed from each row's position, so nothing needs to be kept: float32 products of position and
// frequency, as in Hugging Face's rotary embedding. Cosine and sine are scaled, by 1 except for YaRN. The pairs of a
// head are (j, j + D/2).
#include <ATen/ops/empty.h>

#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/kernels/rows.h"
#include "memo/libtorch/kernels/simd.h"
#include "memo/libtorch/kernels/table.h"

namespace memo::libtorch {
namespace {

using simd::Floats, simd::for_lanes, simd::load, simd::store;

// The arguments of the kernels for one element type. Pointers to rows point at row 0.
template <class T>
struct Layout {
  std::int64_t groups, heads, kv_heads, dim;
  const float* frequencies;  // null: no rotation
  float rotation_scale;
  const std::int64_t* positions;       // by row
  const T *query_weight, *key_weight;  // null: no norms
  float eps;
  [[nodiscard]] std::int64_t queries() const { return heads / groups; }
  [[nodiscard]] std::int64_t keys() const { return kv_heads / groups; }
  [[nodiscard]] std::int64_t group_columns() const { return (queries() + 2 * keys()) * dim; }
};

template <class T>
struct Rows {
  T* data;
  std::int64_t stride;
};

MEMO_INLINE inline void angles(const float* frequencies, float scale, std::int64_t pairs, std::int64_t position,
                               float* cosine, float* sine) {
  const auto at = static_cast<float>(position);
  for (std::int64_t j = 0; j < pairs; j += 8) {
    const auto n = std::min<std::int64_t>(8, pairs - j);
    simd::Doubles x{}, c, s;
    for (std::int64_t i = 0; i < n; ++i) x[i] = static_cast<double>(at * frequencies[j + i]);
    simd::cos_sin(x, c, s);
    for (std::int64_t i = 0; i < n; ++i) {
      cosine[j + i] = scale * static_cast<float>(c[i]);
      sine[j + i] = scale * static_cast<float>(s[i]);
    }
  }
}

// 1 / root of the mean square of one head.
template <class T>
MEMO_INLINE inline float head_scale(const T* x, std::int64_t dim, float eps) {
  Floats total{};
  for_lanes(dim, [&](std::int64_t i, auto n) MEMO_INLINE {
    const Floats v = load(x + i, n);
    total += v * v;
  });
  return 1.0f / std::sqrt(simd::sum(total) / static_cast<float>(dim) + eps);
}

// Turns one head of one row. `weight`: the norm's, or null.
template <class T>
MEMO_INLINE inline void turn_head(const T* x, const T* weight, float eps, const float* cosine, const float* sine,
                                  std::int64_t dim, T* y) {
  const std::int64_t half = dim / 2;
  const float scale = weight == nullptr ? 1.0f : head_scale(x, dim, eps);
  for_lanes(half, [&](std::int64_t j, auto n) MEMO_INLINE {
    Floats a = load(x + j, n), b = load(x + half + j, n);
    if (weight != nullptr) {
      a = a * scale * load(weight + j, n);
      b = b * scale * load(weight + half + j, n);
    }
    const Floats c = load(cosine + j, n), s = load(sine + j, n);
    store(y + j, a * c - b * s, n);
    store(y + half + j, b * c + a * s, n);
  });
}

template <class T>
MEMO_INLINE inline void turn_head_backward(const T* d, const T* x, const T* weight, float eps, const float* cosine,
                                           const float* sine, std::int64_t dim, T* dx, float* d_weight) {
  const std::int64_t half = dim / 2;
  const auto turn_back = [&](std::int64_t j, auto n, Floats& a, Floats& b) MEMO_INLINE {
    const Floats da = load(d + j, n), db = load(d + half + j, n), c = load(cosine + j, n), s = load(sine + j, n);
    a = da * c + db * s;
    b = db * c - da * s;
  };
  if (weight == nullptr) {
    for_lanes(half, [&](std::int64_t j, auto n) MEMO_INLINE {
      Floats a, b;
      turn_back(j, n, a, b);
      store(dx + j, a, n);
      store(dx + half + j, b, n);
    });
    return;
  }
  // Like norm.cpp's backward, for one head.
  const float scale = head_scale(x, dim, eps);
  Floats total{};
  for_lanes(half, [&](std::int64_t j, auto n) MEMO_INLINE {
    Floats a, b;
    turn_back(j, n, a, b);
    const Floats xa = load(x + j, n) * scale, xb = load(x + half + j, n) * scale;
    store(d_weight + j, load(d_weight + j, n) + a * xa, n);
    store(d_weight + half + j, load(d_weight + half + j, n) + b * xb, n);
    total += a * load(weight + j, n) * xa + b * load(weight + half + j, n) * xb;
  });
  const float mean = simd::sum(total) / static_cast<float>(dim);
  for_lanes(half, [&](std::int64_t j, auto n) MEMO_INLINE {
    Floats a, b;
    turn_back(j, n, a, b);
    const Floats xa = load(x + j, n) * scale, xb = load(x + half + j, n) * scale;
    store(dx + j, (a * load(weight + j, n) - xa * mean) * scale, n);
    store(dx + half + j, (b * load(weight + half + j, n) - xb * mean) * scale, n);
  });
}

template <class T>
MEMO_INLINE inline void copy_head(const T* x, std::int64_t count, T* y) {
  if (x != y) std::memcpy(static_cast<void*>(y), x, static_cast<std::size_t>(count) * sizeof(T));
}

template <class T>
MEMO_CLONES void split_rows(Rows<const T> qk, Rows<const T> v, const Layout<T>& l, T* const* groups, float* cosine,
                            float* sine, std::int64_t begin, std::int64_t end) {
  const std::int64_t queries = l.queries(), keys = l.keys(), dim = l.dim;
  for (std::int64_t t = begin; t < end; ++t) {
    if (l.frequencies != nullptr) angles(l.frequencies, l.rotation_scale, dim / 2, l.positions[t], cosine, sine);
    for (std::int64_t g = 0; g < l.groups; ++g) {
      T* y = groups[g] + t * l.group_columns();
      const T* q = qk.data + t * qk.stride + g * queries * dim;
      const T* k = qk.data + t * qk.stride + (l.heads + g * keys) * dim;
      if (l.frequencies == nullptr) {
        copy_head(q, queries * dim, y);
        copy_head(k, keys * dim, y + queries * dim);
      } else {
        for (std::int64_t i = 0; i < queries; ++i)
          turn_head(q + i * dim, l.query_weight, l.eps, cosine, sine, dim, y + i * dim);
        for (std::int64_t i = 0; i < keys; ++i)
          turn_head(k + i * dim, l.key_weight, l.eps, cosine, sine, dim, y + (queries + i) * dim);
      }
      copy_head(v.data + t * v.stride + g * keys * dim, keys * dim, y + (queries + keys) * dim);
    }
  }
}

// `d_weights` [2 D]: the query norm's, then the key norm's.
template <class T>
MEMO_CLONES void split_backward_rows(const T* const* groups, Rows<const T> qk, const Layout<T>& l, Rows<T> raw,
                                     float* cosine, float* sine, float* d_weights, std::int64_t begin,
                                     std::int64_t end) {
  const std::int64_t queries = l.queries(), keys = l.keys(), dim = l.dim;
  for (std::int64_t t = begin; t < end; ++t) {
    if (l.frequencies != nullptr) angles(l.frequencies, l.rotation_scale, dim / 2, l.positions[t], cosine, sine);
    T* row = raw.data + t * raw.stride;
    const T* x = qk.data == nullptr ? nullptr : qk.data + t * qk.stride;
    const auto x_at = [&](std::int64_t column) { return x == nullptr ? nullptr : x + column; };
    for (std::int64_t g = 0; g < l.groups; ++g) {
      const T* d = groups[g] + t * l.group_columns();
      const std::int64_t q = g * queries * dim, k = (l.heads + g * keys) * dim;
      if (l.frequencies == nullptr) {
        copy_head(d, queries * dim, row + q);
        copy_head(d + queries * dim, keys * dim, row + k);
      } else {
        for (std::int64_t i = 0; i < queries * dim; i += dim)
          turn_head_backward(d + i, x_at(q + i), l.query_weight, l.eps, cosine, sine, dim, row + q + i, d_weights);
        for (std::int64_t i = 0; i < keys * dim; i += dim)
          turn_head_backward(d + queries * dim + i, x_at(k + i), l.key_weight, l.eps, cosine, sine, dim, row + k + i,
                             d_weights + dim);
      }
      copy_head(d + (queries + keys) * dim, keys * dim, row + (l.heads + l.kv_heads + g * keys) * dim);
    }
  }
}

template <class T>
Layout<T> layout(const Heads& h, const at::Tensor& positions) {
  MEMO_CHECK(!h.query_norm || !h.frequencies.empty(), "heads with norms are rotated");
  return {h.groups,
          h.heads,
          h.kv_heads,
          h.head_dim,
          h.frequencies.empty() ? nullptr : h.frequencies.data(),
          h.rotation_scale,
          positions.const_data_ptr<std::int64_t>(),
          h.query_norm ? in<T>(h.query_norm->weight.value) : nullptr,
          h.key_norm ? in<T>(h.key_norm->weight.value) : nullptr,
          h.query_norm ? static_cast<float>(h.query_norm->eps) : 0.0f};
}

}  // namespace

namespace on_cpu {

void split_heads(const at::Tensor& qk, const at::Tensor& v, const Heads& heads, const at::Tensor& positions,
                 const std::vector<at::Tensor>& groups) {
  with_type(qk, [&](auto type) {
    using T = decltype(type);
    std::vector<T*> data;
    for (const at::Tensor& group : groups) data.push_back(out<T>(group));
    const Layout<T> l = layout<T>(heads, positions);
    for_rows(qk.size(0), qk.size(1), [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> cosine(heads.frequencies.size()), sine(heads.frequencies.size());
      split_rows<T>({in<T>(qk), qk.stride(0)}, {in<T>(v), v.stride(0)}, l, data.data(), cosine.data(), sine.data(),
                    begin, end);
    });
  });
}

void split_heads_backward(const std::vector<at::Tensor>& groups, const at::Tensor& qk, const Heads& heads,
                          const at::Tensor& positions, at::Tensor& raw) {
  constexpr std::int64_t chunk = 64;  // rows whose weight gradients are summed together
  const std::int64_t rows = raw.size(0), chunks = (rows + chunk - 1) / chunk, dim = heads.head_dim;
  const bool normed = heads.query_norm.has_value();
  const at::Tensor d_weights =
      normed ? at::empty({chunks, 2 * dim}, at::TensorOptions().dtype(at::kFloat)) : at::Tensor();
  with_type(raw, [&](auto type) {
    using T = decltype(type);
    std::vector<const T*> data;
    for (const at::Tensor& group : groups) data.push_back(in<T>(group));
    const Layout<T> l = layout<T>(heads, positions);
    const Rows<const T> x = normed ? Rows<const T>{in<T>(qk), qk.stride(0)} : Rows<const T>{nullptr, 0};
    at::parallel_for(0, chunks, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> cosine(heads.frequencies.size()), sine(heads.frequencies.size());
      for (std::int64_t c = begin; c < end; ++c) {
        float* dw = normed ? out<float>(d_weights) + c * 2 * dim : nullptr;
        if (normed) std::fill_n(dw, 2 * dim, 0.0f);
        split_backward_rows<T>(data.data(), x, l, {out<T>(raw), raw.stride(0)}, cosine.data(), sine.data(), dw,
                               c * chunk, std::min(rows, (c + 1) * chunk));
      }
    });
  });
  if (!normed) return;
  at::Tensor query = heads.query_norm->weight.gradient, key = heads.key_norm->weight.gradient;
  add_column_sums(d_weights.narrow(1, 0, dim), query);
  add_column_sums(d_weights.narrow(1, dim, dim), key);
}

}  // namespace on_cpu

void rotary_on_cpu(Kernels& table) {
  table.split_heads = on_cpu::split_heads;
  table.split_heads_backward = on_cpu::split_heads_backward;
}

}  // namespace memo::libtorch
