// Runs kernels on made-up rows of one head group, for their results and their times.
#include "memo/libtorch/measure/attention_choice.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "memo/base/median.h"

namespace memo::libtorch {
namespace {

constexpr std::int64_t shortest = 1024, compared = 192;  // tokens
constexpr double enough = 0.25;  // seconds of a forward and a backward call; longer sequences are extrapolated
constexpr double warm = 0.1;     // seconds of work after which a GPU's clocks are those of training
constexpr int runs = 3;
constexpr std::size_t lengths_fitted = 3;  // the longest

struct Results {
  at::Tensor o, dq, dk, dv;
};

class Trial {
 public:
  Trial(const CoreCalls& calls, Device& device) : calls_(calls), device_(device) {
    mask_.window = calls.window;
    mask_.any_order = !calls.in_order;
  }

  Results results(const AttentionKernel& kernel, std::int64_t tokens) {
    return run_on(device_, [&] {
      const auto [qkv, d_o] = operands(tokens);
      const auto [o, lse] = kernel.forward(qkv, calls_.heads, mask_, {});
      const auto [dq, dk, dv] = kernel.backward(d_o, qkv, o, lse, calls_.heads, mask_);
      return Results{o.cpu(), dq.cpu(), dk.cpu(), dv.cpu()};
    });
  }

  // Medians of forward and backward seconds.
  std::pair<double, double> seconds(const AttentionKernel& kernel, std::int64_t tokens) {
    std::vector<double> forward, backward;
    const auto [qkv, d_o] = run_on(device_, [&] { return operands(tokens); });
    for (int run = 0; run <= runs || spent_ < warm; ++run) {
      std::tuple<at::Tensor, at::Tensor> result;
      const double there = time([&, &qkv = qkv] { result = kernel.forward(qkv, calls_.heads, mask_, {}); });
      const auto& [o, lse] = result;
      const double back = time(
          [&, &qkv = qkv, &d_o = d_o, &o = o, &lse = lse] { kernel.backward(d_o, qkv, o, lse, calls_.heads, mask_); });
      spent_ += there + back;
      if (run == 0) continue;  // it may compile, or load code
      forward.push_back(there);
      backward.push_back(back);
      if (std::ssize(forward) > runs) forward.erase(forward.begin()), backward.erase(backward.begin());
    }
    return {median(forward), median(backward)};
  }

 private:
  // A tile of random rows, repeated: the process's random numbers are not touched, and long sequences are made fast.
  [[nodiscard]] at::Tensor rows(std::int64_t tokens, std::int64_t columns, std::uint64_t seed) const {
    at::Generator generator = at::detail::createCPUGenerator(seed);
    const std::int64_t tile = std::min(tokens, shortest);
    const at::Tensor some = at::randn({tile, columns}, generator, at::dtype(at::kFloat)).to(calls_.dtype);
    return some.to(device_.of_tensors()).repeat({(tokens + tile - 1) / tile, 1}).narrow(0, 0, tokens);
  }
  [[nodiscard]] std::pair<at::Tensor, at::Tensor> operands(std::int64_t tokens) const {
    const GroupHeads& h = calls_.heads;
    return {rows(tokens, (h.queries + 2 * h.keys) * h.dim, 1), rows(tokens, h.queries * h.dim, 2)};
  }
  double time(const std::function<void()>& work) {
    const auto start = std::chrono::steady_clock::now();
    device_.run(work);
    device_.finish();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  const CoreCalls& calls_;
  Device& device_;
  Mask mask_;
  double spent_ = 0;
};

// Whether two kernels computed the same but for roundings of bfloat16.
bool agree(const Results& a, const Results& b) {
  constexpr double share = 5e-2;  // of the largest value
  const auto near = [](const at::Tensor& x, const at::Tensor& y) {
    const at::Tensor exact = y.to(at::kDouble);
    return (x.to(at::kDouble) - exact).abs().max().item<double>() <= share * exact.abs().max().item<double>();
  };
  return near(a.o, b.o) && near(a.dq, b.dq) && near(a.dk, b.dk) && near(a.dv, b.dv);
}

std::string first_line(const std::exception& error) {
  const std::string text = error.what();  // LibTorch's goes on with a backtrace
  return text.substr(0, text.find('\n'));
}

Length length_of(const CoreCalls& calls, std::int64_t tokens) {
  const auto n = static_cast<double>(tokens);
  return {n, pairs_seen(n, static_cast<double>(calls.window))};
}

// Times a kernel at lengths up to the context; the longest that memory holds ends them.
AttentionChoice timed(const AttentionKernel& kernel, const CoreCalls& calls, Trial& trial) {
  AttentionChoice result{&kernel, {}, {}, {}};
  const std::int64_t context = calls.context.value();
  for (std::int64_t tokens = std::min(shortest, context);; tokens = std::min(2 * tokens, context)) {
    std::pair<double, double> seconds;
    try {
      seconds = trial.seconds(kernel, tokens);
    } catch (const std::exception&) {
      if (result.measured.empty()) throw;
      break;
    }
    const auto& [forward, backward] = seconds;
    result.measured.push_back({kernel.name, Tokens(tokens), Seconds(forward), Seconds(backward)});
    result.forward.emplace_back(length_of(calls, tokens), forward);
    result.backward.emplace_back(length_of(calls, tokens), backward);
    if (tokens == context || forward + backward > enough) break;
  }
  for (auto* each : {&result.forward, &result.backward})
    if (each->size() > lengths_fitted)
      each->erase(each->begin(), each->end() - static_cast<std::ptrdiff_t>(lengths_fitted));
  return result;
}

}  // namespace

Result<AttentionChoice> choose_attention(std::span<const AttentionKernel> kernels, const std::string& wanted,
                                         const CoreCalls& calls, Device& device,
                                         const std::function<void(const std::string&)>& say) {
  if (wanted != "auto") MEMO_CHECKED(attention_named(kernels, wanted));
  const std::int64_t context = calls.context.value();
  AttentionNeeds needs{calls.dtype, calls.heads.dim, calls.heads.softcap,
                       calls.any_window || (calls.window > 0 && calls.window < context), calls.documents};
  needs.in_order = wanted == "auto" && calls.in_order;
  std::vector<const AttentionKernel*> apply;
  std::string refusals;
  for (const AttentionKernel& kernel : kernels) {
    if (wanted != "auto" && wanted != kernel.name) continue;
    const std::string refusal = why_not(kernel.limits, needs);
    if (refusal.empty())
      apply.push_back(&kernel);
    else
      refusals += fmt::format("{}{} has no attention for {}", refusals.empty() ? "" : "; ", kernel.name, refusal);
  }
  if (apply.empty()) return bad_input(refusals);
  // On a CPU attention is timed within a layer's steps (profiler.cpp), whose memory has been touched.
  if (device.of_tensors().is_cpu() && apply.size() == 1) return AttentionChoice{apply.front(), {}, {}, {}};

  Trial trial(calls, device);
  AttentionChoice best;
  std::vector<plan::AttentionTime> measured;
  std::optional<Results> expected;
  double least = std::numeric_limits<double>::infinity();
  for (const AttentionKernel* kernel : apply) {
    try {
      Results own = trial.results(*kernel, std::min(compared, context));
      if (!expected) {
        expected = std::move(own);
      } else if (!agree(own, *expected)) {
        if (say)
          say(fmt::format("profile: attention by {} is not that of {}, and is left out", kernel->name,
                          apply.front()->name));
        continue;
      }
      AttentionChoice one = timed(*kernel, calls, trial);
      measured.insert(measured.end(), one.measured.begin(), one.measured.end());
      const Length whole = length_of(calls, context);
      const double seconds = attention_seconds(one.forward, whole) + attention_seconds(one.backward, whole);
      if (say)
        say(fmt::format("profile: attention by {}: {:.3g} s a head group, forward and backward", kernel->name,
                        seconds));
      if (seconds >= least) continue;
      least = seconds;
      best = std::move(one);
    } catch (const std::exception& error) {
      refusals += fmt::format("{}{}: {}", refusals.empty() ? "" : "; ", kernel->name, first_line(error));
      if (say) say(fmt::format("profile: attention by {} does not run here: {}", kernel->name, first_line(error)));
    }
  }
  if (best.kernel == nullptr) return run_time_error(fmt::format("no kernel of attention runs here: {}", refusals));
  best.measured = std::move(measured);
  return best;
}

}  // namespace memo::libtorch
