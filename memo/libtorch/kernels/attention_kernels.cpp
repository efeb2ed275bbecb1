// Kernels for each instruction set, from one source. Products and exponents are contracted to fused multiply-adds here
// (CMakeLists.txt: -ffp-contract=fast), as in every BLAS: instruction sets differ in the last bits, but each is
// deterministic. One instruction set multiplies pairs of bfloat16; there, P and dS are rounded to bfloat16 too, as in
// FlashAttention.
#include "memo/libtorch/kernels/attention_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <span>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "memo/libtorch/kernels/simd.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)  // clang knows no target pragma
#define MEMO_KNOWS_PAIRS 1
#include <immintrin.h>
#else
#define MEMO_KNOWS_PAIRS 0
#endif

namespace memo::libtorch::attention {
namespace {

using simd::Floats, simd::Full, simd::lanes, simd::load, simd::store;

// Strides of packed tiles are an odd number of cache lines, so that a column uses all sets of the cache.
constexpr std::int64_t stride_of(std::int64_t dim) { return (dim + 15) / 16 * 16 + (((dim + 15) / 16) % 2 == 0) * 16; }
// Rows of O^T, rounded up to four, since a product writes four at a time.
constexpr std::int64_t o_rows(std::int64_t dim) { return (dim + 3) / 4 * 4; }
constexpr std::int64_t score_stride = stride_of(key_tile);

// A forward task: up to `most_panels` tiles of queries, of heads that share a key head.
class ForwardTasks {
 public:
  struct Task {
    std::int64_t key_head, first_head, last_head, first_query;
  };
  ForwardTasks(const GroupHeads& heads, std::int64_t first, std::int64_t last)
      : group_(heads.queries / heads.keys),
        heads_(std::min(group_, most_panels)),
        chunks_((group_ + heads_ - 1) / heads_),
        columns_(heads.keys * chunks_),
        begin_(first / (tiles() * tile)),
        end_(first == last ? begin_ : (last + tiles() * tile - 1) / (tiles() * tile)) {}

  [[nodiscard]] std::int64_t tiles() const { return most_panels / heads_; }
  [[nodiscard]] std::int64_t count() const { return (end_ - begin_) * columns_; }
  Task operator[](std::int64_t task) const {
    const std::int64_t column = task % columns_, key_head = column / chunks_;
    const std::int64_t head = key_head * group_ + column % chunks_ * heads_;
    return {key_head, head, std::min(head + heads_, (key_head + 1) * group_),
            (end_ - 1 - task / columns_) * tiles() * tile};
  }

 private:
  std::int64_t group_, heads_, chunks_, columns_, begin_, end_;
};

// first_key of each of the tile's queries; queries past the end repeat the last one's.
void first_keys(const Visibility& visible, std::int64_t query, std::int64_t end, std::int32_t* result) {
  const auto of = [&](std::int64_t i) { return static_cast<std::int32_t>(visible.first_key(std::min(i, end - 1))); };
  std::fill_n(result, tile, of(query));
  if (of(query + tile - 1) == result[0]) return;  // true nearly everywhere; first_key never decreases
  for (std::int64_t r = 1; r < tile; ++r) result[r] = of(query + r);
}

// Waits until `progress` exceeds `step`. Another thread is about to make that step, unless it waits for a core.
void wait_beyond(std::int32_t step, const std::atomic<std::int32_t>& progress) {
  constexpr int spins = 4096;
  for (int i = 0; progress.load(std::memory_order_acquire) <= step; ++i) {
    if (i >= spins) std::this_thread::yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

// These includes must stay in this order.
// clang-format off
#if MEMO_KNOWS_PAIRS
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,avx512bf16")
namespace v4_pairs {
#define MEMO_LANES 16
#define MEMO_VECTORS 4
#define MEMO_PAIRS 1
#include "memo/libtorch/kernels/attention_tiles.h"
#include "memo/libtorch/kernels/attention_forward.h"
#include "memo/libtorch/kernels/attention_backward.h"
#undef MEMO_LANES
#undef MEMO_VECTORS
#undef MEMO_PAIRS
}  // namespace v4_pairs
#pragma GCC pop_options
#endif
#define MEMO_PAIRS 0
#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
namespace v4 {
#define MEMO_LANES 16
#define MEMO_VECTORS 4
#include "memo/libtorch/kernels/attention_tiles.h"
#include "memo/libtorch/kernels/attention_forward.h"
#include "memo/libtorch/kernels/attention_backward.h"
#undef MEMO_LANES
#undef MEMO_VECTORS
}  // namespace v4
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
namespace v3 {
#define MEMO_LANES 8
#define MEMO_VECTORS 3
#include "memo/libtorch/kernels/attention_tiles.h"
#include "memo/libtorch/kernels/attention_forward.h"
#include "memo/libtorch/kernels/attention_backward.h"
#undef MEMO_LANES
#undef MEMO_VECTORS
}  // namespace v3
#pragma GCC pop_options
#endif
namespace any {
#define MEMO_LANES 4
#define MEMO_VECTORS 3
#include "memo/libtorch/kernels/attention_tiles.h"
#include "memo/libtorch/kernels/attention_forward.h"
#include "memo/libtorch/kernels/attention_backward.h"
}  // namespace any
// clang-format on

}  // namespace

std::int64_t forward_tasks(const GroupHeads& heads, std::int64_t first, std::int64_t last) {
  return ForwardTasks(heads, first, last).count();
}
std::int64_t backward_tasks(const GroupHeads& heads, std::int64_t tokens) {
  return (tokens + key_tile - 1) / key_tile * heads.keys;
}
std::int64_t forward_floats(const GroupHeads& heads) {
  return 2 * tile * stride_of(heads.dim) + tile * tile + most_panels * (heads.dim + o_rows(heads.dim) + 3) * tile;
}
std::int64_t backward_floats(const GroupHeads& heads) {
  const std::int64_t stride = stride_of(heads.dim),
                     fixed = (2 * key_tile + tile) * stride + 2 * tile * score_stride + 3 * tile;
  const std::int64_t of_floats = (key_tile + 2 * tile) * stride + 2 * key_tile * heads.dim;
  const std::int64_t dim_words = (heads.dim + 1) / 2;  // of pairs
  const std::int64_t of_pairs =
      (key_tile / 2 + tile) * stride + 2 * tile * stride_of(dim_words) + 2 * key_tile * dim_words + tile * score_stride;
  return fixed + std::max(of_floats, of_pairs);
}

namespace {

struct Sets {
  bool v3 = false, v4 = false, pairs = false;
};
// The instruction sets that this processor runs.
Sets supported() {
  Sets sets;
#if defined(__x86_64__)
  sets.v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  sets.v4 = sets.v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl");
#endif
#if MEMO_KNOWS_PAIRS
  sets.pairs = sets.v4 && __builtin_cpu_supports("avx512bf16");
#endif
  return sets;
}

}  // namespace

template <class T>
std::span<const Kernels<T>> kernels() {
  static const std::vector all = [] {
    std::vector<Kernels<T>> result;
    [[maybe_unused]] const Sets sets = supported();
#if MEMO_KNOWS_PAIRS
    if constexpr (!std::is_same_v<T, float>)
      if (sets.pairs) result.push_back({v4_pairs::forward_task<T>, v4_pairs::prepare<T>, v4_pairs::backward_task<T>});
#endif
#if defined(__x86_64__)
    if (sets.v4) result.push_back({v4::forward_task<T>, v4::prepare<T>, v4::backward_task<T>});
    if (sets.v3) result.push_back({v3::forward_task<T>, v3::prepare<T>, v3::backward_task<T>});
#endif
    result.push_back({any::forward_task<T>, any::prepare<T>, any::backward_task<T>});
    return result;
  }();
  return all;
}
template std::span<const Kernels<float>> kernels();
template std::span<const Kernels<std::uint16_t>> kernels();

}  // namespace memo::libtorch::attention
