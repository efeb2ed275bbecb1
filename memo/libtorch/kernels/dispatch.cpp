// Calls each kernel through the table of the device on which its tensors lie.
#include "memo/base/check.h"
#include "memo/libtorch/kernels/table.h"
#include "memo/libtorch/memory/device_kind.h"

namespace memo::libtorch {
namespace {

const Kernels& table_of(const at::Tensor& tensor) {
  const DeviceKind* kind = kind_of(tensor.device().type());
  MEMO_CHECK(kind != nullptr, "tensors are of a device in the registry");
  return kind->kernels == nullptr ? cpu_kernels() : kind->kernels();
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                                                    std::optional<QueryRange> range) {
  return attention_kernels(qkv.device().type()).front().forward(qkv, heads, mask, range);
}
std::tuple<at::Tensor, at::Tensor, at::Tensor> causal_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                         const at::Tensor& o, const at::Tensor& lse,
                                                                         const GroupHeads& heads, const Mask& mask) {
  return attention_kernels(qkv.device().type()).front().backward(d_o, qkv, o, lse, heads, mask);
}
void cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& losses) {
  table_of(logits).cross_entropy(logits, targets, losses);
}
void cross_entropy_in_place(at::Tensor& logits, const at::Tensor& targets, double scale, const at::Tensor& losses) {
  table_of(logits).cross_entropy_in_place(logits, targets, scale, losses);
}
void add_weight_gradient(const at::Tensor& d, const at::Tensor& x, at::Tensor& gradient) {
  table_of(d).add_weight_gradient(d, x, gradient);
}
void activate(const at::Tensor& h, model::Activation activation, at::Tensor& a) {
  table_of(h).activate(h, activation, a);
}
void activate_backward(const at::Tensor& h, model::Activation activation, at::Tensor& a, at::Tensor& dh) {
  table_of(h).activate_backward(h, activation, a, dh);
}
void normalise(const at::Tensor& x, const Norm& norm, at::Tensor& y) { table_of(x).normalise(x, norm, y); }
void normalise_backward(const at::Tensor& x, const Norm& norm, at::Tensor& d) {
  table_of(x).normalise_backward(x, norm, d);
}
void split_heads(const at::Tensor& qk, const at::Tensor& v, const Heads& heads, const at::Tensor& positions,
                 const std::vector<at::Tensor>& groups) {
  table_of(qk).split_heads(qk, v, heads, positions, groups);
}
void split_heads_backward(const std::vector<at::Tensor>& groups, const at::Tensor& qk, const Heads& heads,
                          const at::Tensor& positions, at::Tensor& raw) {
  table_of(raw).split_heads_backward(groups, qk, heads, positions, raw);
}
void sum_squares(const at::Tensor& x, const at::Tensor& partial, const at::Tensor& sum) {
  table_of(x).sum_squares(x, partial, sum);
}
void gather_rows(const at::Tensor& tokens, const at::Tensor& embedding, const at::Tensor& positions,
                 const at::Tensor& table, at::Tensor& x) {
  table_of(x).gather_rows(tokens, embedding, positions, table, x);
}
void add_rows(const at::Tensor& tokens, const at::Tensor& d, at::Tensor& gradient) {
  table_of(d).add_rows(tokens, d, gradient);
}
void fill_rows(const at::Tensor& row, at::Tensor& y) { table_of(y).fill_rows(row, y); }
void add_row(const at::Tensor& row, at::Tensor& y) { table_of(y).add_row(row, y); }
void add_column_sums(const at::Tensor& d, at::Tensor& gradient) { table_of(d).add_column_sums(d, gradient); }

const Kernels& cpu_kernels() {
  static const Kernels all = [] {
    Kernels table{};
    for (const auto add : {attention_on_cpu, loss_on_cpu, matmul_on_cpu, mlp_on_cpu, norm_on_cpu, rotary_on_cpu,
                           squares_on_cpu, tables_on_cpu})
      add(table);
    return table;
  }();
  return all;
}

}  // namespace memo::libtorch
