// Neighbouring values of a row that one access reads or writes: 16 bytes where rows begin at multiples of 16 bytes,
// else one value. The values of a thread are the same ones, in the same order, whatever their number.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "memo/kernels/team.h"

namespace memo::kernels {

template <class T, int n>
struct alignas(n * sizeof(T)) Pack {
  T values[n];
};

// Values of T in 16 bytes.
template <class T>
constexpr int wide = 16 / static_cast<int>(sizeof(T));

// By one access on a GPU; __stwb is a store that the compiler does not take apart.
template <class T, int n>
MEMO_BOTH Pack<T, n> read(const T* x) {
#ifdef __CUDA_ARCH__
  return *reinterpret_cast<const Pack<T, n>*>(x);
#else
  Pack<T, n> result;
  std::memcpy(static_cast<void*>(&result), x, sizeof(result));
  return result;
#endif
}
template <class T, int n>
MEMO_BOTH void write(T* x, const Pack<T, n>& from) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(from) == 16) {
    uint4 words;
    memcpy(&words, &from, sizeof(words));
    __stwb(reinterpret_cast<uint4*>(x), words);
  } else {
    *reinterpret_cast<Pack<T, n>*>(x) = from;
  }
#else
  std::memcpy(static_cast<void*>(x), &from, sizeof(from));
#endif
}

// Values x[0] to x[n - 1], as float.
template <int n, class T>
MEMO_BOTH Pack<float, n> floats_at(const T* x) {
  const Pack<T, n> found = read<T, n>(x);
  Pack<float, n> result;
  for (int k = 0; k < n; ++k) result.values[k] = static_cast<float>(found.values[k]);
  return result;
}
template <class T, int n>
MEMO_BOTH void put(T* x, const Pack<float, n>& from) {
  constexpr int at_once = n < wide<T> ? n : wide<T>;  // of float there are less than of bfloat16
  for (int first = 0; first < n; first += at_once) {
    Pack<T, at_once> written;
    for (int k = 0; k < at_once; ++k) written.values[k] = static_cast<T>(from.values[first + k]);
    write<T, at_once>(x + first, written);
  }
}

// Whether all rows of these, of `columns` values and one after another, can be read 16 bytes at a time. Null is a row
// that is not there.
template <class T, class... Rows>
bool all_wide(std::int64_t columns, const Rows*... rows) {
  return columns % wide<T> == 0 && ((reinterpret_cast<std::uintptr_t>(rows) % 16 == 0) && ...);
}

// Calls f(width), a constant: the values of an access, those of 16 bytes if `is_wide`, else one.
template <class T, class F>
void by_width(bool is_wide, const F& f) {
  if (is_wide)
    f(std::integral_constant<int, wide<T>>{});
  else
    f(std::integral_constant<int, 1>{});
}

}  // namespace memo::kernels
