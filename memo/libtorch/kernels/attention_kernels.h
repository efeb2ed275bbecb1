// Attention as tasks over tiles, free of LibTorch: the work of one thread, independent of others. Compiled once for
// each instruction set. A task's result depends on its operands only, never on the number of threads or on addresses. A
// query's output depends only on the keys it sees, so computing some of the queries gives the same bits as computing
// all.
//
// FlashAttention-2 (arXiv 2307.08691), algorithms 1 and 2, arranged for CPUs: matrix products are 4 rows of scalars
// times 64 columns of packed vectors, whose 16 accumulators cover the latency of a fused multiply-add, and every
// operand is in the layout that its product reads along, so nothing is transposed inside a loop over tiles.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "memo/libtorch/kernels/attention_mask.h"

namespace memo::libtorch::attention {

inline constexpr std::int64_t tile = 64;            // queries, and keys in forward
inline constexpr std::int64_t key_tile = 2 * tile;  // keys of a task in backward
inline constexpr std::int64_t most_panels = 4;      // tiles of queries of a task, which share a packed tile of keys

// T: float, or std::uint16_t for bfloat16. Rows are tokens; strides are between rows, in elements.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;
  T* row(std::int64_t i) const { return data + i * stride; }
};

template <class T>
struct Forward {
  GroupHeads heads;
  Visibility visible;
  std::int64_t first, last;  // the queries [first, last)
  Rows<const T> qkv;         // [>= last, (queries + 2 keys) dim]
  Rows<T> o;                 // [last - first, queries dim]
  Rows<float> lse;           // [last - first, queries]
};

template <class T>
struct Backward {
  GroupHeads heads;
  Visibility visible;
  std::int64_t tokens;
  Rows<const T> d_o, qkv, o;  // [tokens, ...]
  Rows<const float> lse;      // [tokens, queries]
  Rows<float> delta;          // [tokens, queries]: sum(d_o o) / sqrt(dim), by `prepare`
  Rows<float> sum;            // [tokens, queries dim]: where key tiles sum dq; may be dq itself
  Rows<T> dq, dk, dv;
};

// The number of tasks. Ascending order starts the long tasks first.
std::int64_t forward_tasks(const GroupHeads& heads, std::int64_t first, std::int64_t last);
std::int64_t backward_tasks(const GroupHeads& heads, std::int64_t tokens);
// The number of floats of a thread's workspace, which is aligned to 64 bytes.
std::int64_t forward_floats(const GroupHeads& heads);
std::int64_t backward_floats(const GroupHeads& heads);

template <class T>
struct Kernels {
  void (*forward)(const Forward<T>&, std::int64_t task, float* work);
  void (*prepare)(const Backward<T>&, std::int64_t begin, std::int64_t end);  // computes delta of these tokens
  // A tile of keys under all queries that see it. Tiles of keys add to dq in ascending order, whichever thread runs
  // them: task t publishes its steps in progress[t], initially 0, and waits for the steps of the tile before it. So
  // tasks must be begun in ascending order, and every task that was begun must be left running.
  void (*backward)(const Backward<T>&, std::int64_t task, float* work, std::atomic<std::int32_t>* progress);
};

// The kernels that this processor can run, fastest first.
template <class T>
std::span<const Kernels<T>> kernels();

}  // namespace memo::libtorch::attention
