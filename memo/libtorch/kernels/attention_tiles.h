// The building blocks of attention_forward.h and attention_backward.h, compiled for one instruction set. It has no
// include guard: attention_kernels.cpp includes it once for each instruction set, inside a namespace that defines
// MEMO_LANES, the number of floats of a register; MEMO_VECTORS, the number of registers across which a block of 4 rows
// is held; and MEMO_PAIRS, whether the operands of products are words of two bfloat16, adjacent along the dimension
// that is summed, or floats.

inline constexpr std::int64_t per_word = MEMO_PAIRS ? 2 : 1;
constexpr std::int64_t words(std::int64_t n) { return (n + per_word - 1) / per_word; }

using Vector = float __attribute__((vector_size(4 * MEMO_LANES)));
using Integers = std::int32_t __attribute__((vector_size(4 * MEMO_LANES)));

MEMO_INLINE inline Vector& vector_at(float* p) { return *reinterpret_cast<Vector*>(p); }
MEMO_INLINE inline const Vector& vector_at(const float* p) { return *reinterpret_cast<const Vector*>(p); }
// first, first + 1, ...
MEMO_INLINE inline Integers counting_from(std::int64_t first) {
  Integers result;
  for (int i = 0; i < MEMO_LANES; ++i) result[i] = static_cast<std::int32_t>(first) + i;
  return result;
}

// sum + a b, of floats or of pairs.
MEMO_INLINE inline Vector multiply_add(float a, const Vector& b, const Vector& sum) {
#if MEMO_PAIRS
  return std::bit_cast<Vector>(
      _mm512_dpbf16_ps(std::bit_cast<__m512>(sum), std::bit_cast<__m512bh>(Vector{} + a), std::bit_cast<__m512bh>(b)));
#else
  return sum + a * b;
#endif
}

// c [4, vectors * MEMO_LANES] (+)= a b: a [4, k] words, or a^T [k, 4] when `transposed`. The product is summed before
// it is added to c, so that its rounding errors are those of a tile, not of the whole sequence.
template <int vectors, bool transposed, bool add>
__attribute__((noinline)) void product_block(std::int64_t k, const float* a, std::int64_t a_stride, const float* b,
                                             std::int64_t b_stride, float* c, std::int64_t c_stride) {
  constexpr int rows = 4;
  Vector sums[rows][vectors] = {};
  for (std::int64_t i = 0; i < k; ++i, b += b_stride) {
    Vector columns[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) columns[v] = vector_at(b + v * MEMO_LANES);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const float scalar = transposed ? a[i * a_stride + r] : a[r * a_stride + i];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[r][v] = multiply_add(scalar, columns[v], sums[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      Vector& result = vector_at(c + r * c_stride + v * MEMO_LANES);
      result = add ? result + sums[r][v] : sums[r][v];
    }
}

template <int vectors, bool transposed, bool add>
void product_columns(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t a_stride,
                     const float* b, std::int64_t b_stride, float* c, std::int64_t c_stride) {
  constexpr std::int64_t columns = vectors * MEMO_LANES;
  for (; n >= columns; n -= columns, b += columns, c += columns)
    for (std::int64_t i = 0; i < m; i += 4)
      product_block<vectors, transposed, add>(k, transposed ? a + i : a + i * a_stride, a_stride, b, b_stride,
                                              c + i * c_stride, c_stride);
  if constexpr (vectors > 1)
    if (n > 0) product_columns<vectors - 1, transposed, add>(m, n, k, a, a_stride, b, b_stride, c, c_stride);
}

// c [m, n] (+)= a b, m a multiple of 4, n of 16. b and c are aligned, their strides multiples of 16.
template <bool transposed, bool add>
void product(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t a_stride, const float* b,
             std::int64_t b_stride, float* c, std::int64_t c_stride) {
  product_columns<MEMO_VECTORS, transposed, add>(m, n, k, a, a_stride, b, b_stride, c, c_stride);
}

// 2^x with a relative error below 2e-7, exactly 1 at 0; 0 below 2^-126; NaN stays NaN. For x < 128.
// 2^x = 2^n 2^f, |f| <= 1/2, 2^f by the polynomial of least relative error with p(0) = 1.
MEMO_INLINE inline Vector exp2(const Vector& x) {
  constexpr float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  const Vector shifted = x + shift;
  const Vector f = x - (shifted - shift);
  Vector p = f * 0.00132646655f + 0.00967151261f;
  p = p * f + 0.0555073389f;
  p = p * f + 0.240222421f;
  p = p * f + 0.693146978f;
  p = p * f + 1.0f;
  const Integers scaled = std::bit_cast<Integers>(p) + (std::bit_cast<Integers>(shifted) << 23);
  return x < -126.0f ? Vector{} : std::bit_cast<Vector>(scaled);
}

// tanh(x) = 1 - 2 / (e^2x + 1), within 2e-7.
MEMO_INLINE inline Vector tanh(const Vector& x) {
  constexpr float most = 10;  // tanh is 1 there
  const Vector bounded = x > most ? Vector{} + most : (x < -most ? Vector{} - most : x);
  return 1.0f - 2.0f / (exp2(bounded * (2 * std::numbers::log2e_v<float>)) + 1.0f);
}

// Scores [rows, columns] become cap tanh(score / cap).
inline void cap_scores(float* scores, std::int64_t rows, std::int64_t columns, std::int64_t stride, float cap) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < columns; i += MEMO_LANES) {
      Vector& score = vector_at(scores + r * stride + i);
      score = cap * tanh(score / cap);
    }
}

// Like simd::for_lanes. That one is compiled for any processor, and so may not call code compiled for this one.
template <class F>
MEMO_INLINE inline void for_lanes(std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, Full{});
  if (i < n) f(i, n - i);
}

// rows [count, dim] -> packed [tile, stride_of(words(dim))], words along dim, zero beyond the rows and columns.
template <class T>
void pack(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t dim, float* packed) {
  const std::int64_t packed_stride = stride_of(words(dim));
  for (std::int64_t r = 0; r < count; ++r, rows += stride, packed += packed_stride)
    for_lanes(dim, [&](std::int64_t i, auto n) MEMO_INLINE {
      if constexpr (MEMO_PAIRS) {
        simd::Halves halves = {};
        std::memcpy(&halves, rows + i, static_cast<std::size_t>(n) * sizeof(T));
        std::memcpy(reinterpret_cast<T*>(packed) + i, &halves, sizeof(halves));
      } else {
        store(packed + i, load(rows + i, n), Full{});
      }
    });
  std::fill_n(packed, (tile - count) * packed_stride, 0.0f);
}

#if MEMO_PAIRS
using Pairs = std::uint32_t __attribute__((vector_size(64)));

MEMO_INLINE inline simd::Halves narrow(const Vector& v) {
  return std::bit_cast<simd::Halves>(_mm512_cvtneps_pbh(std::bit_cast<__m512>(v)));
}
MEMO_INLINE inline Vector pairs(const simd::Halves& low, const simd::Halves& high) {
  return std::bit_cast<Vector>(__builtin_convertvector(low, Pairs) | __builtin_convertvector(high, Pairs) << 16);
}

// `word` makes words along the rows of `parts`; `store_row_words` stores words along a row, from its element i on.
MEMO_INLINE inline Vector word(const Vector (&parts)[2]) { return pairs(narrow(parts[0]), narrow(parts[1])); }
MEMO_INLINE inline void store_row_words(float* row, std::int64_t i, const Vector& values) {
  const simd::Halves halves = narrow(values);
  std::memcpy(reinterpret_cast<std::uint16_t*>(row) + i, &halves, sizeof(halves));
}

// rows [count, dim] -> packed [words(tile), stride_of(dim)]: words along the rows.
template <class T>
void pack_along(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t dim, float* packed) {
  const std::int64_t packed_stride = stride_of(dim);
  for (std::int64_t r = 0; r < tile; r += 2, rows += 2 * stride, packed += packed_stride) {
    if (r >= count) {
      std::fill_n(packed, packed_stride, 0.0f);
      continue;
    }
    for_lanes(dim, [&](std::int64_t i, auto n) MEMO_INLINE {
      simd::Halves low = {}, high = {};
      std::memcpy(&low, rows + i, static_cast<std::size_t>(n) * sizeof(T));
      if (r + 1 < count) std::memcpy(&high, rows + stride + i, static_cast<std::size_t>(n) * sizeof(T));
      vector_at(packed + i) = pairs(low, high);
    });
  }
}
#else
MEMO_INLINE inline Vector word(const Vector (&parts)[1]) { return parts[0]; }
MEMO_INLINE inline void store_row_words(float*, std::int64_t, const Vector&) {}  // `word` has stored them

template <class T>
void pack_along(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t dim, float* packed) {
  pack(rows, stride, count, dim, packed);
}
#endif

// Fetches the rows that will be packed next into the cache, one row at a time.
struct Ahead {
  const void* rows = nullptr;
  std::int64_t stride = 0, bytes = 0;

  template <class T>
  static Ahead of(const T* rows, std::int64_t stride, std::int64_t dim) {
    constexpr std::int64_t size = sizeof(T);
    return {rows, stride * size, dim * size};
  }
  void fetch(std::int64_t row) const {
    constexpr std::int64_t line = 64;
    const char* data = static_cast<const char*>(rows) + row * stride;
    for (std::int64_t i = 0; i < bytes; i += line) __builtin_prefetch(data + i);
  }
};

// packed [tile, stride] -> columns [count, tile], word by word.
inline void transpose(const float* packed, std::int64_t stride, std::int64_t count, float* columns) {
  for (std::int64_t d = 0; d < count; ++d)
    for (std::int64_t r = 0; r < tile; ++r) columns[d * tile + r] = packed[r * stride + d];
}
