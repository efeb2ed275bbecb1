// Words and numbers of an estimate, a search and a sweep.
#include "memo/cli/estimate_show.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "memo/base/text.h"
#include "memo/estimate/overlap.h"
#include "memo/report/lines_page.h"

namespace memo::cli {
namespace {

std::string degrees_text(const estimate::Degrees& d) {
  std::string text;
  for (const auto& [name, degree] :
       {std::pair("tensor", d.tensor), std::pair("ring", d.ring), std::pair("ulysses", d.ulysses),
        std::pair("pipeline", d.pipeline), std::pair("data", d.data)})
    if (degree > 1) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, degree);
  return text.empty() ? "one GPU" : text;
}

const estimate::AttentionRate& attention_of(const estimate::Found& found) {
  return found.setup.hardware.attention_of(found.setup.attention);
}

double hours_per_billion(const estimate::Found& found) { return 1e9 / found.estimate.tokens_per_second_gpu / 3600; }

}  // namespace

nlohmann::json estimate_json(const estimate::Found& found, double price) {
  const estimate::Estimate& e = found.estimate;
  const estimate::Degrees& d = found.setup.degrees;
  nlohmann::json kinds;
  for (const auto& [name, bytes] : e.kinds) kinds[name] = bytes.value();
  return {
      {"strategy", found.strategy},
      {"degrees",
       {{"tensor", d.tensor}, {"ring", d.ring}, {"ulysses", d.ulysses}, {"pipeline", d.pipeline}, {"data", d.data}}},
      {"attention_kernel", attention_of(found).kernel},
      {"fits", e.fits},
      {"reason", e.reason},
      {"device_bytes", e.reserved.value()},
      {"tensor_bytes", e.allocated.value()},
      {"peak_by_kind", kinds},
      {"host_bytes_per_node", e.host_per_node.value()},
      {"step_seconds", e.step.value()},
      {"split_seconds",
       {{"attention", e.split.attention},
        {"matmul", e.split.matmul},
        {"memory", e.split.memory},
        {"recompute", e.split.reruns},
        {"collectives", e.split.collectives},
        {"stalls", e.split.stalls},
        {"bubble", e.split.bubble},
        {"update", e.split.update}}},
      {"tokens_per_second_gpu", e.tokens_per_second_gpu},
      {"mfu_causal", e.mfu_causal},
      {"mfu_full", e.mfu_full},
      {"gpu_hours_per_billion_tokens", hours_per_billion(found)},
      {"price_per_billion_tokens", hours_per_billion(found) * price}};
}

std::string estimate_text(const estimate::Found& found, double price) {
  const estimate::Estimate& e = found.estimate;
  std::string text = fmt::format("strategy         {} ({})\n", found.strategy, degrees_text(found.setup.degrees));
  text += fmt::format("device           {} of {}: {}\n", format_bytes(e.reserved), format_bytes(e.device_limit),
                      e.fits ? "fits" : "does not fit");
  text += fmt::format("  at the peak    {}\n", e.reason);
  const estimate::AttentionRate& attention = attention_of(found);
  text += fmt::format("attention        by {}: {:.0f} TFLOP/s forward, {:.0f} backward, of the causal half\n",
                      attention.kernel, attention.forward / 1e12, attention.backward / 1e12);
  if (e.step == Seconds(0)) return text;
  if (e.host_per_node > Bytes(0)) text += fmt::format("host             {} a node\n", format_bytes(e.host_per_node));
  if (found.setup.offload_all) {
    const std::optional<Tokens> from = estimate::hidden_from(found.setup);
    text += fmt::format(
        "copies           {}\n",
        from ? fmt::format("all that is saved can leave under compute from {}K tokens on", from->value() / 1024)
             : "the host's bandwidth is too low to hide copies at any context");
  }
  text += fmt::format("step             {}, {:.1f} tokens/s a GPU\n", format_seconds(e.step), e.tokens_per_second_gpu);
  const estimate::StepSplit& s = e.split;
  for (const auto& [name, seconds] :
       {std::pair("attention", s.attention), std::pair("products", s.matmul), std::pair("other kernels", s.memory),
        std::pair("recomputation", s.reruns), std::pair("collectives", s.collectives),
        std::pair("copy waits", s.stalls), std::pair("pipeline bubble", s.bubble), std::pair("update", s.update)})
    if (seconds > 1e-3 * e.step.value())
      text += fmt::format("  {:<15}{} ({:.1f} %)\n", name, format_seconds(Seconds(seconds)),
                          100 * seconds / e.step.value());
  text += fmt::format("MFU              {:.2f} % (causal attention), {:.2f} % (attention counted in full)\n",
                      100 * e.mfu_causal, 100 * e.mfu_full);
  text += fmt::format("GPU hours        {:.1f} for 10^9 tokens", hours_per_billion(found));
  if (price > 0) text += fmt::format(", {:.0f} at {:.2f} an hour", hours_per_billion(found) * price, price);
  return text + "\n";
}

std::string why_not(const estimate::Found& found, const estimate::Outcome& outcome) {
  const estimate::Estimate& e = found.estimate;
  const std::string who = fmt::format("{:<16} ({})", found.strategy, degrees_text(found.setup.degrees));
  if (!e.fits) return fmt::format("{} does not fit: {}\n", who, e.reason);
  const double slower = outcome.best.front().estimate.tokens_per_second_gpu / e.tokens_per_second_gpu;
  const std::pair<double, const char*> costs[] = {
      {e.split.reruns, "recomputation"},        {e.split.collectives, "collectives"},
      {e.split.stalls, "waits for copies"},     {e.split.bubble, "the pipeline's bubble"},
      {e.split.memory, "element-wise kernels"}, {e.split.update, "updates"}};
  const auto [seconds, what] = *std::ranges::max_element(costs, {}, [](const auto& cost) { return cost.first; });
  return fmt::format("{} takes {:.2f} times as long a token: {:.0f} % of its step are {}\n", who, slower,
                     100 * seconds / e.step.value(), what);
}

std::string sweep_text(const std::vector<estimate::SweepCell>& cells, const std::vector<int>& gpus) {
  std::string text = fmt::format("{:<16}", "longest context");
  for (const int count : gpus) text += fmt::format("{:>10}", fmt::format("{} GPUs", count));
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i % gpus.size() == 0) text += fmt::format("\n{:<16}", cells[i].strategy);
    text += fmt::format("{:>10}", cells[i].longest.context == Tokens(0)
                                      ? "none"
                                      : fmt::format("{}K", cells[i].longest.context.value() / 1024));
  }
  return text + "\n";
}

std::string sweep_csv(const std::vector<estimate::SweepCell>& cells) {
  std::string text = "strategy,gpus,longest_context,step_s,tok_s_gpu,mfu_causal_pct,device_gib,host_gib_per_node\n";
  const auto gib = [](Bytes bytes) { return static_cast<double>(bytes.value()) / (1 << 30); };
  for (const estimate::SweepCell& cell : cells) {
    text += fmt::format("{},{},{}", cell.strategy, cell.gpus, cell.longest.context.value());
    if (cell.longest.found) {
      const estimate::Estimate& e = cell.longest.found->estimate;
      text += fmt::format(",{:.4g},{:.4g},{:.2f},{:.2f},{:.2f}\n", e.step.value(), e.tokens_per_second_gpu,
                          100 * e.mfu_causal, gib(e.reserved), gib(e.host_per_node));
    } else {
      text += ",,,,,\n";
    }
  }
  return text;
}

std::string sweep_page(const std::string& title, const std::vector<estimate::SweepCell>& cells,
                       const std::vector<int>& gpus) {
  report::Lines page{title, "The longest context that fits, by strategy", "GPUs", "tokens", {gpus.begin(), gpus.end()},
                     {}};
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i % gpus.size() == 0) page.lines.push_back({cells[i].strategy, {}});
    const auto longest = static_cast<double>(cells[i].longest.context.value());
    page.lines.back().values.push_back(longest > 0 ? std::optional(longest) : std::nullopt);
  }
  return report::lines_page(page);
}

}  // namespace memo::cli
