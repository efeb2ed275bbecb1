// Sixteen floats at a time for the kernels, in GCC's vector extensions: the arithmetic is written once and compiled for
// each instruction set (MEMO_CLONES). Products and sums are never fused (ISO mode: -ffp-contract=off), so all
// instruction sets give the same bits. Included by this folder's sources only.
#pragma once

#include <c10/util/BFloat16.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed to inlined functions only

#define MEMO_INLINE __attribute__((always_inline))
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MEMO_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else  // a sanitizer's runtime is not ready when clones are chosen
#define MEMO_CLONES
#endif

namespace memo::libtorch::simd {

inline constexpr std::int64_t lanes = 16;
using Full = std::integral_constant<std::int64_t, lanes>;

using Floats = float __attribute__((vector_size(64)));
using Ints = std::int32_t __attribute__((vector_size(64)));
using Words = std::uint32_t __attribute__((vector_size(64)));
using Halves = std::uint16_t __attribute__((vector_size(32)));
using Doubles = double __attribute__((vector_size(64)));      // 8
using Longs = std::int64_t __attribute__((vector_size(64)));  // 8

// Calls f(i, count) for i = 0, 16, ... < n; `count` is Full, or at the end an integer: the number of elements left.
template <class F>
MEMO_INLINE inline void for_lanes(std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, Full{});
  if (i < n) f(i, n - i);
}

MEMO_INLINE inline Floats widen(const Halves& h) {
  return std::bit_cast<Floats>(__builtin_convertvector(h, Words) << 16);
}
// To the nearest bfloat16, ties to even.
MEMO_INLINE inline Halves narrow(const Floats& v) {
  const Words bits = std::bit_cast<Words>(v);
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words nan = Words{} + 0x7fc0;
  return __builtin_convertvector(v != v ? nan : rounded, Halves);
}

template <class T, class Count>
MEMO_INLINE inline Floats load(const T* p, Count count, float fill = 0) {
  constexpr bool full = std::is_same_v<Count, Full>;
  if constexpr (std::is_same_v<T, float>) {
    Floats v = Floats{} + fill;
    std::memcpy(&v, p, full ? sizeof(v) : static_cast<std::size_t>(count) * sizeof(T));
    return v;
  } else {
    Halves h = narrow(Floats{} + fill);
    std::memcpy(&h, p, full ? sizeof(h) : static_cast<std::size_t>(count) * sizeof(T));
    return widen(h);
  }
}

template <class T, class Count>
MEMO_INLINE inline void store(T* p, const Floats& v, Count count) {
  constexpr bool full = std::is_same_v<Count, Full>;
  if constexpr (std::is_same_v<T, float>) {
    std::memcpy(p, &v, full ? sizeof(v) : static_cast<std::size_t>(count) * sizeof(T));
  } else {
    const Halves h = narrow(v);
    std::memcpy(static_cast<void*>(p), &h, full ? sizeof(h) : static_cast<std::size_t>(count) * sizeof(T));
  }
}

MEMO_INLINE inline float sum(const Floats& v) {
  float result = 0;
  for (int i = 0; i < lanes; ++i) result += v[i];
  return result;
}
MEMO_INLINE inline float max(const Floats& v) {
  float result = v[0];
  for (int i = 1; i < lanes; ++i) result = v[i] > result ? v[i] : result;
  return result;
}

// e^x with a relative error below 2e-7 for x in [-87, 88]; e^-87 below that, infinite from 88.4 on; NaN stays NaN.
// e^x = 2^n e^r, |r| <= ln(2)/2, e^r by its Taylor series (the next term is below 6e-9).
MEMO_INLINE inline Floats exp(const Floats& given) {
  Floats x = given < -87.0f ? Floats{} - 87.0f : given;
  x = x > 89.0f ? Floats{} + 89.0f : x;  // n = 128: infinite
  constexpr float shift = 12582912.0f;   // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  const Floats shifted = x * 1.44269504f + shift;
  const Floats n = shifted - shift;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, n times the first is exact
  Floats p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Ints power = (std::bit_cast<Ints>(shifted) - std::bit_cast<std::int32_t>(shift) + 127) << 23;
  return p * std::bit_cast<Floats>(power);
}

MEMO_INLINE inline Floats sigmoid(const Floats& x) { return 1.0f / (1.0f + exp(-x)); }

// cos and sin of |x| < 1e8, absolute error below 1e-8 before rounding to float (x - k pi/2 and the series in double).
MEMO_INLINE inline void cos_sin(const Doubles& x, Doubles& cosine, Doubles& sine) {
  constexpr double shift = 6755399441055744.0;  // 1.5 * 2^52
  const Doubles shifted = x * 0.63661977236758134 + shift;
  const Doubles r = x - (shifted - shift) * 1.5707963267948966;
  const Longs quadrant = std::bit_cast<Longs>(shifted);
  const Doubles r2 = r * r;
  Doubles s = r2 * (1.0 / 362880) - 1.0 / 5040;
  s = s * r2 + 1.0 / 120;
  s = s * r2 - 1.0 / 6;
  s = s * r2 * r + r;
  Doubles c = r2 * (-1.0 / 3628800) + 1.0 / 40320;
  c = c * r2 - 1.0 / 720;
  c = c * r2 + 1.0 / 24;
  c = c * r2 - 0.5;
  c = c * r2 + 1.0;
  const auto odd = (quadrant & 1) != 0;
  const Doubles c0 = odd ? s : c, s0 = odd ? c : s;
  cosine = ((quadrant + 1) & 2) != 0 ? -c0 : c0;
  sine = (quadrant & 2) != 0 ? -s0 : s0;
}

}  // namespace memo::libtorch::simd
