// Rows of the embedding and position tables, biases, and sums over rows.
#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/kernels/rows.h"
#include "memo/libtorch/kernels/simd.h"
#include "memo/libtorch/kernels/table.h"

namespace memo::libtorch {
namespace {

using simd::Floats, simd::for_lanes, simd::load, simd::store;

template <class A, class B>
MEMO_CLONES void add_values(const A* x, B* y, std::int64_t count) {  // y += x
  for_lanes(count, [&](std::int64_t i, auto n) MEMO_INLINE { store(y + i, load(y + i, n) + load(x + i, n), n); });
}

template <class T>
MEMO_CLONES void sum_values(const T* a, const T* b, T* y, std::int64_t count) {  // y = a + b
  for_lanes(count, [&](std::int64_t i, auto n) MEMO_INLINE { store(y + i, load(a + i, n) + load(b + i, n), n); });
}

// total[c] += sum over rows of x[row][c], for c < columns; 64 columns at a time, so that each step reads at least a
// cache line.
template <class T>
MEMO_CLONES void sum_rows(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t columns, float* total) {
  std::int64_t c = 0;
  for (; c + 4 * simd::lanes <= columns; c += 4 * simd::lanes) {
    Floats a{}, b{}, d{}, e{};
    for (const T* p = x + c; p < x + c + rows * stride; p += stride) {
      a += load(p, simd::Full{});
      b += load(p + 16, simd::Full{});
      d += load(p + 32, simd::Full{});
      e += load(p + 48, simd::Full{});
    }
    store(total + c, load(total + c, simd::Full{}) + a, simd::Full{});
    store(total + c + 16, load(total + c + 16, simd::Full{}) + b, simd::Full{});
    store(total + c + 32, load(total + c + 32, simd::Full{}) + d, simd::Full{});
    store(total + c + 48, load(total + c + 48, simd::Full{}) + e, simd::Full{});
  }
  for_lanes(columns - c, [&](std::int64_t i, auto n) MEMO_INLINE {
    Floats a{};
    for (const T* p = x + c + i; p < x + c + i + rows * stride; p += stride) a += load(p, n);
    store(total + c + i, load(total + c + i, n) + a, n);
  });
}

// Calls f(begin, end) over columns, in parallel, split at multiples of 64.
template <class F>
void for_columns(std::int64_t columns, std::int64_t rows, const F& f) {
  constexpr std::int64_t tile = 64;
  for_rows((columns + tile - 1) / tile, rows * tile,
           [&](std::int64_t begin, std::int64_t end) { f(begin * tile, std::min(columns, end * tile)); });
}

void check_tokens(const at::Tensor& tokens, const at::Tensor& table) {
  const auto* id = tokens.const_data_ptr<std::int64_t>();
  for (std::int64_t t = 0; t < tokens.numel(); ++t)
    MEMO_CHECK(id[t] >= 0 && id[t] < table.size(0), "a token is below the vocabulary's size");
}

}  // namespace

namespace on_cpu {

void gather_rows(const at::Tensor& tokens, const at::Tensor& embedding, const at::Tensor& positions,
                 const at::Tensor& table, at::Tensor& x) {
  check_tokens(tokens, embedding);
  if (table.defined()) check_tokens(positions, table);
  const auto* position = positions.const_data_ptr<std::int64_t>();
  const auto* id = tokens.const_data_ptr<std::int64_t>();
  const std::int64_t columns = x.size(1);
  with_type(x, [&](auto type) {
    using T = decltype(type);
    for_rows(x.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const T* row = in<T>(embedding) + id[t] * columns;
        if (table.defined())
          sum_values(row, in<T>(table) + position[t] * columns, out<T>(x) + t * columns, columns);
        else
          std::copy_n(row, columns, out<T>(x) + t * columns);
      }
    });
  });
}

void add_rows(const at::Tensor& tokens, const at::Tensor& d, at::Tensor& gradient) {
  check_tokens(tokens, gradient);
  const auto* id = tokens.const_data_ptr<std::int64_t>();
  const std::int64_t columns = d.size(1), rows = d.size(0);
  with_type(d, [&](auto type) {
    using T = decltype(type);
    // Parallel over columns: tokens repeat, and each sum must have one order.
    for_columns(columns, rows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = 0; t < rows; ++t)
        add_values(in<T>(d) + t * columns + begin, out<float>(gradient) + id[t] * columns + begin, end - begin);
    });
  });
}

void fill_rows(const at::Tensor& row, at::Tensor& y) {
  const std::int64_t columns = y.size(1);
  with_type(y, [&](auto type) {
    using T = decltype(type);
    for_rows(y.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) std::copy_n(in<T>(row), columns, out<T>(y) + t * columns);
    });
  });
}

void add_row(const at::Tensor& row, at::Tensor& y) {
  const std::int64_t columns = y.size(1);
  with_type(y, [&](auto type) {
    using T = decltype(type);
    for_rows(y.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) add_values(in<T>(row), out<T>(y) + t * columns, columns);
    });
  });
}

void add_column_sums(const at::Tensor& d, at::Tensor& gradient) {
  with_type(d, [&](auto type) {
    using T = decltype(type);
    for_columns(d.size(1), d.size(0), [&](std::int64_t begin, std::int64_t end) {
      sum_rows(in<T>(d) + begin, d.size(0), d.stride(0), end - begin, out<float>(gradient) + begin);
    });
  });
}

}  // namespace on_cpu

void tables_on_cpu(Kernels& table) {
  table.gather_rows = on_cpu::gather_rows;
  table.add_rows = on_cpu::add_rows;
  table.fill_rows = on_cpu::fill_rows;
  table.add_row = on_cpu::add_row;
  table.add_column_sums = on_cpu::add_column_sums;
}

}  // namespace memo::libtorch
