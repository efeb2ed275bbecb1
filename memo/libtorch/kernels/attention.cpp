// The CPU's attention: memory and threads for the kernels of attention_kernels.h.
#include "memo/libtorch/kernels/attention.h"

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <vector>

#include "memo/base/check.h"
#include "memo/libtorch/kernels/attention_blind.h"
#include "memo/libtorch/kernels/attention_kernels.h"
#include "memo/libtorch/kernels/rows.h"
#include "memo/libtorch/kernels/table.h"

namespace memo::libtorch {
namespace {

using attention::Rows;

// The kernels' type for bfloat16.
template <class T>
using Element = std::conditional_t<std::is_same_v<T, float>, float, std::uint16_t>;

template <class T>
Rows<T> rows(const at::Tensor& tensor) {
  MEMO_CHECK(tensor.dim() == 2 && tensor.stride(1) == 1, "attention's operands lie row by row");
  return {static_cast<T*>(tensor.data_ptr()), tensor.stride(0)};
}

void check(const at::Tensor& qkv, const GroupHeads& h, const Mask& mask) {
  MEMO_CHECK(h.keys > 0 && h.queries % h.keys == 0, "query heads share key heads evenly");
  MEMO_CHECK(qkv.size(1) == (h.queries + 2 * h.keys) * h.dim, "qkv has the columns of its heads");
  MEMO_CHECK(qkv.size(0) <= std::numeric_limits<std::int32_t>::max(), "attention counts tokens in 32 bits");
  MEMO_CHECK(std::is_sorted(mask.document_starts.begin(), mask.document_starts.end()),
             "documents start one after the other");
}

at::Tensor floats(at::IntArrayRef sizes) { return at::empty(sizes, at::TensorOptions().dtype(at::kFloat)); }

// Calls f(task, work) for tasks 0, 1, ..., begun in this order by as many threads as there are.
template <class F>
void for_tasks(std::int64_t tasks, std::int64_t work_floats, const F& f) {
  const std::int64_t threads = at::get_num_threads();
  const at::Tensor work = floats({threads, work_floats});
  std::atomic<std::int64_t> next{0};
  at::parallel_for(0, threads, 1, [&](std::int64_t thread, std::int64_t) {
    float* own = work.data_ptr<float>() + thread * work_floats;
    for (std::int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) f(task, own);
  });
}

template <class T>
void forward(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask, const QueryRange& range,
             const at::Tensor& o, const at::Tensor& lse) {
  const attention::Forward<T> operands{
      heads, Visibility(mask, range.last), range.first, range.last, rows<const T>(qkv), rows<T>(o), rows<float>(lse)};
  const auto& kernels = attention::kernels<T>().front();
  for_tasks(attention::forward_tasks(heads, range.first, range.last), attention::forward_floats(heads),
            [&](std::int64_t task, float* work) { kernels.forward(operands, task, work); });
}

template <class T>
void backward(const attention::Backward<T>& operands) {
  const auto& kernels = attention::kernels<T>().front();
  for_rows(operands.tokens, operands.heads.queries * operands.heads.dim,
           [&](std::int64_t begin, std::int64_t end) { kernels.prepare(operands, begin, end); });
  const std::int64_t tasks = attention::backward_tasks(operands.heads, operands.tokens);
  std::vector<std::atomic<std::int32_t>> progress(static_cast<std::size_t>(tasks));
  for_tasks(tasks, attention::backward_floats(operands.heads),
            [&](std::int64_t task, float* work) { kernels.backward(operands, task, work, progress.data()); });
}

}  // namespace

namespace on_cpu {

std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                                                    std::optional<QueryRange> given) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  check(qkv, heads, mask);
  const QueryRange range = given.value_or(QueryRange{0, qkv.size(0)});
  MEMO_CHECK(mask.row == 0 || !given, "queries that see no key attend to all keys of their row");
  MEMO_CHECK(0 <= range.first && range.first <= range.last && range.last <= qkv.size(0), "queries are rows of qkv");
  at::Tensor o = at::empty({range.last - range.first, heads.queries * heads.dim}, qkv.options());
  at::Tensor lse = floats({range.last - range.first, heads.queries});
  with_type(qkv, [&](auto t) { forward<Element<decltype(t)>>(qkv, heads, mask, range, o, lse); });
  if (mask.row > 0) attend_evenly(qkv, heads, mask, o);
  return {o, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> causal_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                         const at::Tensor& o, const at::Tensor& lse,
                                                                         const GroupHeads& heads, const Mask& mask) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  check(qkv, heads, mask);
  const std::int64_t tokens = qkv.size(0);
  at::Tensor dq = at::empty({tokens, heads.queries * heads.dim}, qkv.options());
  at::Tensor dk = at::empty({tokens, heads.keys * heads.dim}, qkv.options());
  at::Tensor dv = at::empty({tokens, heads.keys * heads.dim}, qkv.options());
  const at::Tensor delta = floats({tokens, heads.queries});
  const at::Tensor sum = qkv.scalar_type() == at::kFloat ? dq : floats(dq.sizes());
  with_type(qkv, [&](auto t) {
    using T = Element<decltype(t)>;
    backward<T>({heads, Visibility(mask, tokens), tokens, rows<const T>(d_o), rows<const T>(qkv), rows<const T>(o),
                 rows<const float>(lse), rows<float>(delta), rows<float>(sum), rows<T>(dq), rows<T>(dk), rows<T>(dv)});
  });
  if (mask.row > 0) attend_evenly_backward(d_o, qkv, heads, mask, dq, dk, dv);
  return {dq, dk, dv};
}

}  // namespace on_cpu

void attention_on_cpu(Kernels& table) {
  static constexpr AttentionLimits all{
      .float32 = true, .softcap = true, .window = true, .documents = true, .in_order = true};
  static const std::array<AttentionKernel, 1> kernels{
      {{"cpu", all, on_cpu::causal_attention, on_cpu::causal_attention_backward}}};
  table.attention = kernels;
}

}  // namespace memo::libtorch
