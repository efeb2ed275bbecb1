// Where the time of a step goes: bench_step_budget [S] [rounds]. Every kernel of a block's calls, of one head group's
// attention and of the update is timed in turns, in the order in which a step runs them and in one process, on the
// shapes of main_job.py's model; a step takes each as often as its count says. The rest of a step is the executor's
// (benchmarks/overhead.py) and waiting for copies.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "interleaved.h"
#include "memo/libtorch/kernels/attention.h"
#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/model/optimizer.h"

namespace memo::libtorch {
namespace {

constexpr std::int64_t block = 1024, hidden = 512, heads = 8, kv_heads = 4, dim = 64, groups = 4, ffn = 1536,
                       vocabulary = 8192, layers = 8, qkv = (heads + 2 * kv_heads) * dim;

struct Work {
  std::string kind, name;  // kind: "product", "attention" or what else a row of the table is about
  double times;            // in a step
  std::function<void()> run;
};

at::Tensor rows(std::int64_t count, std::int64_t columns) { return at::randn({count, columns}) * 0.03; }

// The kernels of one block, layer by layer, as memo/libtorch/model/functions.cpp and segments.cpp call them.
class Step {
 public:
  explicit Step(std::int64_t tokens) : tokens_(tokens), blocks_(static_cast<double>(tokens) / block) {
    for (std::int64_t g = 0; g < groups; ++g) {
      group_qkv_.push_back(rows(block, qkv / groups));
      group_o_.push_back(rows(block, heads * dim / groups));
    }
    rope_.groups = groups, rope_.heads = heads, rope_.kv_heads = kv_heads, rope_.head_dim = dim;
    rope_.frequencies.assign(dim / 2, 0.01F);
    norm_.weight = {"norm", at::ones({hidden}), at::zeros({hidden})};
  }

  std::vector<Work> works() {
    product("qkv", w_qkv_, x_, raw_);
    product("attention's output", w_o_, o_, x_);
    product("gate and up", w_in_, x_, h_);
    product("down", w_out_, a_, x_);
    product("logits", w_vocabulary_, x_, logits_, blocks_);
    norms("norm", 4 * layers * blocks_ + blocks_,
          2 * layers * blocks_ + blocks_);  // two and again in backward; the loss's
    add("rotary, heads", "split", per_block_, [this] {
      split_heads(raw_.narrow(1, 0, qkv - kv_heads * dim), raw_.narrow(1, qkv - kv_heads * dim, kv_heads * dim), rope_,
                  positions_, group_qkv_);
    });
    add("rotary, heads", "gradients together", per_block_, [this] {
      for (const at::Tensor& group : group_qkv_)
        at::cat_out(d_group_,
                    {group.narrow(1, 0, 2 * dim), group.narrow(1, 2 * dim, dim), group.narrow(1, 3 * dim, dim)}, 1);
    });
    add("rotary, heads", "backward", per_block_,
        [this] { split_heads_backward(group_qkv_, {}, rope_, positions_, raw_); });
    add("rotary, heads", "outputs together", per_block_, [this] { at::cat_out(o_, group_o_, 1); });
    add("activation", "forward", per_block_, [this] { activate(h_, model::Activation::silu, a_); });
    add("activation", "backward", per_block_, [this] { activate_backward(h_, model::Activation::silu, a_, dh_); });
    add("residual", "copy", 2 * per_block_, [this] { y_.copy_(x_); });
    add("residual", "gradient", 2 * per_block_, [this] { y_.add_(x_); });
    add("loss", "cross entropy", blocks_, [this] { cross_entropy_in_place(logits_, targets_, 1e-6, losses_); });
    add("embedding", "forward", blocks_, [this] { gather_rows(targets_, w_vocabulary_, positions_, {}, y_); });
    add("embedding", "backward", blocks_, [this] { add_rows(targets_, y_, d_vocabulary_); });
    add("optimizer", "update", 1, [this] { update(); });
    const GroupHeads h{heads / groups, kv_heads / groups, dim};
    add("attention", "forward", layers * groups, [this, h] { std::tie(core_o_, lse_) = causal_attention(core_, h); });
    add("attention", "backward", layers * groups,
        [this, h] { causal_attention_backward(core_d_, core_, core_o_, lse_, h); });
    return std::move(works_);
  }

 private:
  void add(std::string kind, std::string name, double times, std::function<void()> run) {
    works_.push_back({std::move(kind), std::move(name), times, std::move(run)});
  }

  void product(const std::string& name, at::Tensor& w, at::Tensor& in, at::Tensor& out, double times = 0) {
    times = times > 0 ? times : per_block_;
    weights_.push_back(w);
    gradients_.push_back(at::zeros_like(w));
    at::Tensor gradient = gradients_.back();
    add("product", name, times, [in, w, out = out]() mutable { linear(in, w, out); });
    add("product", name + ", of the input", times, [in = in, w, out]() mutable { linear_backward(out, w, in); });
    add("product", name + ", of the weight", times,
        [in, out, gradient = gradient]() mutable { add_weight_gradient(out, in, gradient); });
  }

  void norms(const std::string& kind, double forward, double backward) {
    add(kind, "forward", forward, [this] { normalise(x_, norm_, y_); });
    add(kind, "backward", backward, [this] { normalise_backward(x_, norm_, y_); });
  }

  // Norm of the gradients, clipping, AdamW and zeroes for the next step, of all layers.
  void update() {
    if (all_weights_.empty()) {
      for (std::size_t i = 0; i < weights_.size(); ++i)
        for (int layer = 0; layer < (i + 1 == weights_.size() ? 1 : layers); ++layer)
          for (std::vector<at::Tensor>* some : {&all_weights_, &all_gradients_, &first_, &second_})
            some->push_back(at::full_like(weights_[i], 1e-3));
    }
    double squares = 0;
    for (const at::Tensor& gradient : all_gradients_) squares += sum_of_squares(gradient);
    clip_gradients(all_gradients_, std::sqrt(squares), 1e-3);
    adamw_step({}, 2, all_weights_, all_gradients_, first_, second_, std::vector<bool>(all_weights_.size(), true));
    for (at::Tensor& gradient : all_gradients_) gradient.zero_();
  }

  std::int64_t tokens_;
  double blocks_, per_block_ = layers * blocks_;
  Heads rope_;
  Norm norm_;
  std::vector<Work> works_;
  at::Tensor losses_ = at::empty({block}, at::kDouble);
  at::Tensor positions_ = at::arange(block), targets_ = at::randint(vocabulary, {block});
  at::Tensor x_ = rows(block, hidden), y_ = rows(block, hidden), o_ = rows(block, heads*dim), raw_ = rows(block, qkv),
             h_ = rows(block, 2 * ffn), dh_ = rows(block, 2 * ffn), a_ = rows(block, ffn),
             logits_ = rows(block, vocabulary), d_group_ = rows(block, qkv / groups);
  at::Tensor w_qkv_ = rows(qkv, hidden), w_o_ = rows(hidden, heads*dim), w_in_ = rows(2 * ffn, hidden),
             w_out_ = rows(hidden, ffn), w_vocabulary_ = rows(vocabulary, hidden),
             d_vocabulary_ = at::zeros({vocabulary, hidden});
  at::Tensor core_ = rows(tokens_, qkv / groups), core_d_ = rows(tokens_, heads*dim / groups), core_o_, lse_;
  std::vector<at::Tensor> group_qkv_, group_o_, weights_, gradients_, all_weights_, all_gradients_, first_, second_;
};

}  // namespace
}  // namespace memo::libtorch

int main(int count, char** arguments) {
  using namespace memo::libtorch;
  const std::int64_t tokens = count > 1 ? std::atoll(arguments[1]) : 8192;
  const int rounds = count > 2 ? std::atoi(arguments[2]) : 9;
  const at::AutoDispatchBelowADInplaceOrView plain;
  at::manual_seed(1);
  Step step(tokens);
  std::vector<Work> works = step.works();
  std::vector<std::function<void()>> runs;
  for (const Work& work : works) runs.push_back(work.run);
  const std::vector<double> times = memo::interleaved(rounds, runs);

  double whole = 0;
  std::vector<std::string> kinds;
  std::map<std::string, double> of_kind;
  for (std::size_t i = 0; i < works.size(); ++i) {
    const auto [found, is_new] = of_kind.try_emplace(works[i].kind, 0.0);
    if (is_new) kinds.push_back(works[i].kind);
    found->second += works[i].times * times[i];
    whole += works[i].times * times[i];
  }
  fmt::print("{} tokens in blocks of {}, float32, {} threads, medians of {}\n\n", tokens, block, at::get_num_threads(),
             rounds);
  fmt::print("| kernel | one ms | in a step | s | of the step |\n|---|---|---|---|---|\n");
  for (std::size_t i = 0; i < works.size(); ++i)
    fmt::print("| {}: {} | {:.3f} | {:.0f} | {:.3f} | {:.2f} % |\n", works[i].kind, works[i].name, 1e3 * times[i],
               works[i].times, works[i].times * times[i], 100 * works[i].times * times[i] / whole);
  fmt::print("\n");
  for (const std::string& kind : kinds)
    fmt::print("{}: {:.2f} s, {:.2f} %\n", kind, of_kind[kind], 100 * of_kind[kind] / whole);
  const double other = whole - of_kind["product"] - of_kind["attention"];
  fmt::print("All kernels: {:.2f} s a step; neither product nor attention: {:.2f} %.\n", whole, 100 * other / whole);
  return 0;
}
