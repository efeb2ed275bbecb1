// Moves tensors between the plan's operands and a plug-in's layers, before, at and after attention.
#include "memo/plugin/layer_segments.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <optional>
#include <stdexcept>
#include <utility>

#include "memo/base/check.h"
#include "memo/libtorch/memory/allocator.h"
#include "memo/libtorch/memory/device.h"
#include "memo/plugin/split_attention.h"

namespace memo::plugin {

using model::Stage;

namespace {

// Makes the tensor, and all that share its storage, lie at `to` from now on.
void move_to(const at::Tensor& tensor, const at::Tensor& to) {
  tensor.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(to.data_ptr(), to.device()));
}

// Copies [heads, T, D] of a group's heads into columns of rows [T, heads D].
void copy_heads(const at::Tensor& heads, std::int64_t group, std::int64_t each, const at::Tensor& columns) {
  columns.unflatten(1, {each, -1}).copy_(heads.narrow(0, group * each, each).transpose(0, 1));
}

// [T, each D] of every group -> [heads, T, D].
at::Tensor by_head(std::span<const at::Tensor> groups, std::int64_t each) {
  std::vector<at::Tensor> split;
  for (const at::Tensor& group : groups) split.push_back(group.unflatten(1, {each, -1}));
  return (split.size() == 1 ? split.front() : at::cat(split, 1)).transpose(0, 1);
}

}  // namespace

model::Dataflow layers_dataflow(const model::LayerShape& shape, const libtorch::ComputeDtype& dtype, int groups,
                                Tokens context, Tokens block) {
  return model::layers_dataflow(shape, static_cast<int>(c10::elementSize(dtype.rows)),
                                static_cast<int>(c10::elementSize(dtype.attention)), groups, context, block);
}

LayerSegments::LayerSegments(const model::Dataflow& flow, const model::LayerShape& shape, at::ScalarType attention,
                             LayerCalls& calls, const libtorch::AttentionKernel& kernel)
    : flow_(flow),
      heads_{shape.heads / flow.groups, shape.kv_heads / flow.groups, shape.head_dim},
      attention_(attention),
      calls_(calls),
      kernel_(kernel),
      attentions_(at(flow.layers)) {
  for (const model::LayerIndex layer : indices<model::LayerIndex>(flow.layers))
    data_dependent_.push_back(shape.is_data_dependent(shape.kinds.empty() ? 0 : shape.kinds[layer]));
}

void LayerSegments::begin_forward(at::Tensor hidden) {
  hidden_ = std::move(hidden);
  outputs_.clear();
}

std::vector<at::Tensor> LayerSegments::take_outputs() {
  hidden_.reset();
  return std::exchange(outputs_, {});
}

void LayerSegments::begin_backward(std::vector<at::Tensor> d_outputs, at::Tensor d_hidden,
                                   std::vector<at::Tensor> parameters) {
  d_outputs_ = std::move(d_outputs);
  d_hidden_ = std::move(d_hidden);
  parameters_ = std::move(parameters);
  sums_.assign(parameters_.size(), {});
}

std::vector<at::Tensor> LayerSegments::take_gradients() {
  d_outputs_.clear();
  d_hidden_.reset();
  parameters_.clear();
  return std::exchange(sums_, {});
}

void LayerSegments::forget() {
  suspended_.clear();
  calls_.forget();
}

at::Tensor LayerSegments::rows(const at::Tensor& whole, model::BlockIndex block) const {
  return whole.narrow(0, block.value() * flow_.block.value(), flow_.block_tokens(block).value());
}

libtorch::GroupHeads LayerSegments::heads(const libtorch::Where& where) const {
  libtorch::GroupHeads result = heads_;
  result.softcap = attentions_[where.layer].softcap;
  return result;
}

libtorch::Mask LayerSegments::mask(const libtorch::Where& where) const {
  const auto& mask = attentions_[where.layer].mask;
  libtorch::Mask result = mask ? libtorch::Mask(*mask) : libtorch::Mask();
  if (!where.document_starts.empty()) result.document_starts = where.document_starts;  // the recorder's
  result.any_order = flow_.context.value() > libtorch::longest_in_order;
  libtorch::AttentionNeeds needs{attention_, heads_.dim};
  needs.documents = result.document_starts.size() > 1;
  needs.window = result.window > 0 && result.window < flow_.context.value();
  if (const std::string refusal = libtorch::why_not(kernel_.limits, needs); !refusal.empty())
    throw std::runtime_error(fmt::format("the plan's kernel of attention, {}, has none for {}", kernel_.name, refusal));
  return result;
}

std::int64_t LayerSegments::window(model::LayerIndex layer) const {
  const auto& mask = attentions_[layer].mask;
  return mask ? mask->window : 0;
}

std::vector<at::Tensor> LayerSegments::forward(model::SegmentIndex segment, const libtorch::Where& where,
                                               const std::vector<at::Tensor>& reads, libtorch::Graph* graph) {
  const model::Segment& of = flow_.segments[segment];
  const bool token_wise = of.stage == Stage::before || of.stage == Stage::after;
  const at::AutoGradMode grad(token_wise && of.has_backward());
  libtorch::Graph scratch;
  if (of.role == model::SegmentRole::input) {
    const at::Tensor block = rows(hidden_, where.block);
    return {at::empty(block.sizes(), block.options()).copy_(block)};
  }
  if (of.stage == Stage::before)
    return before(where, reads[0], !of.has_backward() ? nullptr : graph ? graph : &scratch);
  if (of.stage == Stage::core) {
    auto [o, lse] = split_attention(reads[0], heads(where), mask(where), calls_, kernel_);
    return {o, lse};
  }
  if (of.stage == Stage::after)
    after(where, reads, graph ? *graph : scratch, of.has_backward(), graph == nullptr && of.has_backward());
  return {};
}

std::vector<at::Tensor> LayerSegments::before(const libtorch::Where& where, const at::Tensor& x,
                                              libtorch::Graph* graph) {
  const at::Tensor in = graph ? libtorch::leaf(libtorch::unowned(x), *graph) : libtorch::unowned(x);
  const auto [q, k, v, softcap, mask] = calls_.before(where.layer, where.block, in);
  attentions_[where.layer] = {softcap, mask};
  suspended_[{where.layer, where.block}] = in;
  if (graph) libtorch::keep_roots({q, k, v}, *graph);
  const at::NoGradGuard copies;
  const std::int64_t query = heads_.queries * heads_.dim, key = heads_.keys * heads_.dim;
  std::vector<at::Tensor> qkv;
  for (std::int64_t g = 0; g < flow_.groups; ++g) {
    qkv.push_back(at::empty({x.size(0), query + 2 * key}, x.options().dtype(attention_)));
    copy_heads(q, g, heads_.queries, qkv.back().narrow(1, 0, query));
    copy_heads(k, g, heads_.keys, qkv.back().narrow(1, query, key));
    copy_heads(v, g, heads_.keys, qkv.back().narrow(1, query + key, key));
  }
  return qkv;
}

std::vector<at::Tensor> LayerSegments::go_on(const libtorch::Where& where, const std::vector<at::Tensor>& reads,
                                             libtorch::Graph& graph) {
  const auto waiting = suspended_.extract({where.layer, where.block});
  MEMO_CHECK(!waiting.empty(), "a block goes on after attention where it waited");
  move_to(waiting.mapped(), reads[0]);
  graph.leaves.push_back(waiting.mapped());
  std::vector<at::Tensor> groups;
  for (std::size_t g = 1; g < reads.size(); ++g) {
    const at::Tensor o = reads[g].unflatten(1, {heads_.queries, heads_.dim});
    groups.push_back(at::GradMode::is_enabled() ? libtorch::leaf(o, graph) : o);
  }
  auto [y, extra_outputs] =
      calls_.after(where.layer, where.block, groups.size() == 1 ? groups.front() : at::cat(groups, 1));
  extra_outputs.insert(extra_outputs.begin(), y);
  return extra_outputs;
}

void LayerSegments::after(const libtorch::Where& where, const std::vector<at::Tensor>& reads, libtorch::Graph& graph,
                          bool differentiable, bool again) {
  const bool planned = !data_dependent_[where.layer];
  std::optional<libtorch::UnplannedScope> heap;
  if (!planned) heap.emplace(reads[0].device().type());
  const at::AutoGradMode grad(differentiable && planned);
  const std::vector<at::Tensor> outputs = go_on(where, reads, graph);
  if (differentiable && planned)
    libtorch::keep_roots(outputs, graph);
  else
    graph = {};
  if (again) return;
  const at::NoGradGuard copies;
  if (std::exchange(outputs_of_, where.layer) != where.layer) {  // layers of several kinds are recorded in turn
    outputs_.clear();
    if (!d_outputs_.empty()) d_outputs_.resize(1);
  }
  if (outputs_.empty()) {
    const libtorch::UnplannedScope persistent(reads[0].device().type());
    for (const at::Tensor& output : outputs)
      outputs_.push_back(at::empty({hidden_.size(0), output.size(1)}, output.options()));
  }
  MEMO_CHECK(outputs_.size() == outputs.size(), "a layer gives the same for every block");
  for (std::size_t i = 0; i < outputs.size(); ++i) rows(outputs_[i], where.block).copy_(outputs[i]);
}

std::vector<at::Tensor> LayerSegments::backward(model::SegmentIndex segment, const libtorch::Where& where,
                                                const std::vector<at::Tensor>& reads, libtorch::Graph& graph) {
  const at::AutoGradMode no_grad(false);
  const Stage stage = flow_.segments[segment].stage;
  const auto groups = static_cast<std::size_t>(flow_.groups);
  if (stage == Stage::core) {
    auto [dq, dk, dv] =
        split_attention_backward(reads[0], reads[1], reads[2], reads[3], heads(where), mask(where), calls_, kernel_);
    return {dq, dk, dv};
  }
  if (stage == Stage::after) return after_backward(where, reads, graph);
  const std::span<const at::Tensor> all(reads);
  const std::vector<at::Tensor> result = differentiate(
      graph, {by_head(all.subspan(0, groups), heads_.queries), by_head(all.subspan(groups, groups), heads_.keys),
              by_head(all.subspan(2 * groups, groups), heads_.keys)});
  rows(d_hidden_, where.block).add_(result.front());
  return {};
}

// The gradient of output i; zeros for an output without one.
const at::Tensor& LayerSegments::d_output(std::size_t i) {
  while (d_outputs_.size() <= i) {
    const libtorch::UnplannedScope persistent(d_hidden_.device().type());
    d_outputs_.push_back(at::zeros_like(outputs_.at(d_outputs_.size())));
  }
  return d_outputs_[i];
}

std::vector<at::Tensor> LayerSegments::after_backward(const libtorch::Where& where,
                                                      const std::vector<at::Tensor>& reads, libtorch::Graph& graph) {
  const c10::DeviceType device = d_hidden_.device().type();
  const bool planned = !data_dependent_[where.layer];
  std::vector<at::Tensor> result;
  {
    std::optional<libtorch::UnplannedScope> heap;
    if (!planned) {
      heap.emplace(device);
      const at::AutoGradMode grad(true);  // so that views of x that bypass attention lead to x
      const at::Tensor x = libtorch::leaf(libtorch::unowned(reads[0]), graph);
      (void)calls_.before(where.layer, where.block, x);
      suspended_[{where.layer, where.block}] = x;
      graph = {};
      libtorch::keep_roots(go_on(where, reads, graph), graph);
    }
    std::vector<at::Tensor> given;
    for (std::size_t i = 0; i < graph.roots.size(); ++i) given.push_back(rows(d_output(i), where.block));
    result = differentiate(graph, given);
  }
  const at::Tensor d_x = rows(d_hidden_, where.block);
  result.front().defined() ? d_x.copy_(result.front()) : d_x.zero_();
  result.erase(result.begin());
  for (at::Tensor& d_o : result) {
    const at::Tensor of = d_o.flatten(1);
    d_o = !planned ? at::empty(of.sizes(), of.options()).copy_(of) : of.contiguous();
  }
  return result;
}

std::vector<at::Tensor> LayerSegments::differentiate(libtorch::Graph& graph, const std::vector<at::Tensor>& of_roots) {
  const std::size_t leaves = graph.leaves.size();
  std::vector<at::Tensor> result = libtorch::gradients(graph, of_roots, parameters_);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& gradient = result[leaves + i];
    if (!gradient.defined()) continue;
    if (!sums_[i].defined()) {
      const libtorch::UnplannedScope heap(gradient.device().type());
      sums_[i] = at::zeros(gradient.sizes(), gradient.options().dtype(at::kFloat));
    }
    sums_[i].add_(gradient);
  }
  result.resize(leaves);
  return result;
}

}  // namespace memo::plugin
