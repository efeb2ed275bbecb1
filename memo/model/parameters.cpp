// Lists parameters by shape, and sums their memory.
#include "memo/model/parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "memo/base/check.h"

namespace memo::model {
namespace {

using Sizes = std::vector<std::int64_t>;

std::int64_t sum(const Sizes& sizes) { return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}); }

class Builder {
 public:
  explicit Builder(const Shape& shape) {
    const auto family = find_family(shape.family, "shape");
    MEMO_CHECK(family, "a shape has a known family");
    family_ = *family;
  }

  // `pieces`: rows of the parts that some families store as separate tensors. columns 0: a vector.
  void add(const std::string& name, const Sizes& pieces, std::int64_t columns, Init init,
           LayerIndex layer = LayerIndex::none()) {
    ParameterSpec spec;
    spec.name = !layer.exists() ? name : fmt::format("layers.{}.{}", layer, name);
    spec.shape = {sum(pieces)};
    if (columns > 0) spec.shape.push_back(columns);
    spec.decays = columns > 0;
    spec.init = init;
    spec.layer = layer;
    spec.stage = stage_of(name);
    spec.parts = parts(name, pieces, layer, columns > 0 && layer.exists() && family_->linear_transposed);
    specs_.push_back(std::move(spec));
  }
  void linear(const std::string& name, const Sizes& out, std::int64_t in, bool bias, Init init, LayerIndex layer) {
    add(name, out, in, init, layer);
    if (bias) add(name + ".bias", out, 0, Init::zero, layer);
  }
  void norm(const std::string& name, std::int64_t size, bool bias, LayerIndex layer = LayerIndex::none()) {
    add(name, {size}, 0, Init::one, layer);
    if (bias) add(name + ".bias", {size}, 0, Init::zero, layer);
  }

  std::vector<ParameterSpec> take() { return std::move(specs_); }

 private:
  static Stage stage_of(const std::string& name) {
    const std::string base = name.substr(0, name.find('.'));
    if (base == "embedding" || base == "positions") return Stage::embedding;
    if (base == "final_norm" || base == "head") return Stage::loss;
    return base == "attn_norm" || base == "qkv" || base == "q_norm" || base == "k_norm" ? Stage::before : Stage::after;
  }
  [[nodiscard]] std::vector<ParameterPart> parts(const std::string& name, Sizes pieces, LayerIndex layer,
                                                 bool transposed) const {
    const auto found = std::find_if(family_->tensors.begin(), family_->tensors.end(),
                                    [&](const TensorNames& t) { return t.parameter == name; });
    MEMO_CHECK(found != family_->tensors.end(), "a family names every parameter of its shapes");
    if (found->tensors.size() == 1) pieces = {sum(pieces)};
    MEMO_CHECK(found->tensors.size() == pieces.size(), "a parameter is one tensor or one for each of its pieces");
    std::vector<ParameterPart> parts;
    std::int64_t row = 0;
    for (std::size_t i = 0; i < pieces.size(); row += pieces[i++])
      parts.push_back({fmt::format(fmt::runtime(found->tensors[i]), layer), row, pieces[i], 0, transposed});
    return parts;
  }

  const Family* family_;
  std::vector<ParameterSpec> specs_;
};

}  // namespace

std::vector<ParameterSpec> parameters(const Shape& s) {
  const bool norm_bias = s.norm == Norm::layer;
  const std::int64_t query = s.heads * s.head_dim, key = s.kv_heads * s.head_dim;
  const Sizes mlp_in = s.activation == Activation::silu ? Sizes{s.ffn, s.ffn} : Sizes{s.ffn};

  Builder b(s);
  b.add("embedding", {s.vocab}, s.hidden, Init::normal);
  if (s.position == Position::learned) b.add("positions", {s.max_positions}, s.hidden, Init::normal);
  for (const LayerIndex i : indices<LayerIndex>(static_cast<int>(s.layers))) {
    b.norm("attn_norm", s.hidden, norm_bias, i);
    b.linear("qkv", {query, key, key}, s.hidden, s.qkv_bias, Init::normal, i);
    if (s.qk_norm) b.norm("q_norm", s.head_dim, false, i);
    if (s.qk_norm) b.norm("k_norm", s.head_dim, false, i);
    b.linear("out", {s.hidden}, query, s.out_bias, Init::residual_normal, i);
    b.norm("mlp_norm", s.hidden, norm_bias, i);
    b.linear("mlp_in", mlp_in, s.hidden, s.mlp_bias, Init::normal, i);
    b.linear("mlp_out", {s.hidden}, s.ffn, s.mlp_bias, Init::residual_normal, i);
  }
  b.norm("final_norm", s.hidden, norm_bias);
  if (!s.tied) b.add("head", {s.vocab}, s.hidden, Init::normal);
  return b.take();
}

std::int64_t parameter_count(const Shape& shape) {
  std::int64_t count = 0;
  for (const ParameterSpec& spec : parameters(shape))
    count += std::accumulate(spec.shape.begin(), spec.shape.end(), std::int64_t{1}, std::multiplies<>());
  return count;
}

double model_flops(const Shape& shape, Tokens context, bool causal) {
  const auto real = [](std::int64_t value) { return static_cast<double>(value); };
  const double query = real(shape.heads * shape.head_dim), key = real(shape.kv_heads * shape.head_dim);
  const double matrices = shape.activation == Activation::silu ? 3 : 2;  // of the MLP
  const double layer = real(shape.hidden) * (2 * query + 2 * key + matrices * real(shape.ffn));
  const double weights = real(shape.layers) * layer + real(shape.hidden * shape.vocab);
  const double pairs = real(context.value()) * real(context.value()) * (causal ? 0.5 : 1);
  return 6 * weights * real(context.value()) + 12 * real(shape.layers) * pairs * query;
}

Bytes parameter_bytes(const ParameterSpec& spec, std::int64_t element_bytes) {
  constexpr std::int64_t alignment = 64;
  const std::int64_t elements =
      std::accumulate(spec.shape.begin(), spec.shape.end(), std::int64_t{1}, std::multiplies<>());
  return round_up(Bytes(elements * element_bytes), alignment);
}

StateBytes state_bytes(const Shape& shape, int element_bytes, LayerIndex layer, Stage stage) {
  const int floats = element_bytes == 4 ? 2 : 3;  // the optimizer's, of a parameter
  StateBytes sum;
  for (const ParameterSpec& spec : parameters(shape)) {
    if (spec.layer != layer || (layer.exists() && spec.stage != stage)) continue;
    sum.weights += parameter_bytes(spec, element_bytes);
    sum.gradients += parameter_bytes(spec, 4);
    sum.optimizer += parameter_bytes(spec, 4) * floats;
  }
  return sum;
}

}  // namespace memo::model
