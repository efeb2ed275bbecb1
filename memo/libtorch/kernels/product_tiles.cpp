// Cuts products into tiles of at most 512 rows and columns, whose float32 copies stay in the cache between their uses.
#include "memo/libtorch/kernels/product_tiles.h"

#include <ATen/Version.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "memo/libtorch/kernels/rows.h"
#include "memo/libtorch/kernels/simd.h"

namespace memo::libtorch::product_tiles {
namespace {

constexpr std::int64_t tile = 512;

template <class From, class To>
MEMO_CLONES void convert_rows(const From* from, std::int64_t from_stride, To* to, std::int64_t to_stride,
                              std::int64_t rows, std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride)
    simd::for_lanes(columns,
                    [&](std::int64_t i, auto n) MEMO_INLINE { simd::store(to + i, simd::load(from + i, n), n); });
}

// to = from, between bfloat16 and float32; both [R, C] with adjacent columns.
template <class From, class To>
void convert(const at::Tensor& from, const at::Tensor& to) {
  const From* source = in<From>(from);
  To* target = out<To>(to);
  const std::int64_t columns = from.size(1), source_stride = from.stride(0), target_stride = to.stride(0);
  for_rows(from.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
    convert_rows(source + begin * source_stride, source_stride, target + begin * target_stride, target_stride,
                 end - begin, columns);
  });
}
void widen(const at::Tensor& from, const at::Tensor& to) { convert<c10::BFloat16, float>(from, to); }
void round(const at::Tensor& from, const at::Tensor& to) { convert<float, c10::BFloat16>(from, to); }

// Float32 memory of a tile, of which a smaller tile at an edge takes the beginning.
struct Work {
  Work(std::int64_t rows, std::int64_t columns) : all(at::empty({rows * columns}, at::kFloat)) {}
  at::Tensor of(std::int64_t rows, std::int64_t columns) const {
    return all.narrow(0, 0, rows * columns).view({rows, columns});
  }
  at::Tensor all;
};

}  // namespace

bool apply(const at::Tensor& operand) {
  static const bool slow = at::get_cpu_capability().find("AVX512") == std::string::npos;
  return slow && operand.is_cpu() && operand.scalar_type() == at::kBFloat16;
}

void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor& c, bool add) {
  const std::int64_t m = c.size(0), n = c.size(1), k = a.size(1);
  const bool transposed = b.stride(1) != 1;
  const Work work_a(std::min(tile, m), k), work_b(std::min(tile, n), k), work_c(std::min(tile, m), std::min(tile, n));
  for (std::int64_t j = 0; j < n; j += tile) {
    const std::int64_t columns = std::min(tile, n - j);
    const at::Tensor b_stored = transposed ? work_b.of(columns, k) : work_b.of(k, columns);
    const at::Tensor b_part = b.narrow(1, j, columns);
    widen(transposed ? b_part.t() : b_part, b_stored);
    const at::Tensor b_tile = transposed ? b_stored.t() : b_stored;
    for (std::int64_t i = 0; i < m; i += tile) {
      const std::int64_t rows = std::min(tile, m - i);
      const at::Tensor a_tile = work_a.of(rows, k), c_part = c.narrow(0, i, rows).narrow(1, j, columns);
      at::Tensor c_tile = work_c.of(rows, columns);
      widen(a.narrow(0, i, rows), a_tile);
      if (add) {
        widen(c_part, c_tile);
        at::addmm_out(c_tile, c_tile, a_tile, b_tile);
      } else {
        at::mm_out(c_tile, a_tile, b_tile);
      }
      round(c_tile, c_part);
    }
  }
}

void add_weight_gradient(const at::Tensor& d, const at::Tensor& x, at::Tensor& gradient) {
  const std::int64_t tokens = d.size(0), n = d.size(1), k = x.size(1);
  const Work work_x(std::min(tile, tokens), k), work_d(std::min(tile, tokens), std::min(tile, n));
  for (std::int64_t t = 0; t < tokens; t += tile) {
    const std::int64_t rows = std::min(tile, tokens - t);
    const at::Tensor x_tile = work_x.of(rows, k);
    widen(x.narrow(0, t, rows), x_tile);
    for (std::int64_t j = 0; j < n; j += tile) {
      const std::int64_t columns = std::min(tile, n - j);
      const at::Tensor d_tile = work_d.of(rows, columns);
      widen(d.narrow(0, t, rows).narrow(1, j, columns), d_tile);
      at::Tensor part = gradient.narrow(0, j, columns);
      at::addmm_out(part, part, d_tile.t(), x_tile);
    }
  }
}

}  // namespace memo::libtorch::product_tiles
