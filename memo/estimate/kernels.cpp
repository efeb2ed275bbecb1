// Rates, latencies and formulas.
#include "memo/estimate/kernels.h"

#include <algorithm>

namespace memo::estimate {
namespace {

constexpr double latency = 25e-6;                               // of a collective
constexpr double host_adam_rate = 1.2e11;                       // bytes/s of a node's processors during an update
constexpr double adam_device_bytes = 28, adam_host_bytes = 28;  // read and written for each parameter

BytesPerSecond rate_over(const Setup& setup, int ranks, int stride) {
  const bool inside = ranks * stride <= setup.hardware.gpus_per_node;
  return BytesPerSecond((inside ? setup.hardware.link : setup.hardware.network).value() * setup.hardware.shares.link);
}

}  // namespace

double matmul_seconds(const Setup& setup, double flops, double rows) {
  const bool fp8 = setup.fp8 && setup.hardware.peak_fp8 > 0;
  const double best =
      fp8 ? setup.hardware.peak_fp8 * setup.hardware.shares.fp8 : setup.hardware.matmul * setup.hardware.shares.matmul;
  return flops / (best * rows / (rows + setup.hardware.shares.matmul_half));
}

double attention_seconds(const Setup& setup, double flops, double tokens, bool backward) {
  const AttentionRate& rate = setup.hardware.attention_of(setup.attention);
  const double best = (backward ? rate.backward : rate.forward) * setup.hardware.shares.attention;
  return flops / (best * tokens / (tokens + rate.half));
}

double memory_seconds(const Setup& setup, double bytes) {
  return bytes / (setup.hardware.memory_rate.value() * setup.hardware.shares.memory);
}

double all_gather_seconds(const Setup& setup, double bytes, int ranks, int stride) {
  if (ranks <= 1) return 0;
  return latency + bytes * (ranks - 1) / ranks / rate_over(setup, ranks, stride).value();
}

double all_to_all_seconds(const Setup& setup, double bytes, int ranks, int stride) {
  if (ranks <= 1) return 0;
  const int inside = std::clamp(setup.hardware.gpus_per_node / stride, 1, ranks);
  const double near = bytes * (inside - 1) / ranks / (setup.hardware.link.value() * setup.hardware.shares.link);
  const double far = bytes * (ranks - inside) / ranks / (setup.hardware.network.value() * setup.hardware.shares.link);
  return latency + std::max(near, far);
}

double send_seconds(const Setup& setup, double bytes, int ranks, int stride) {
  return ranks <= 1 ? 0 : latency + bytes / rate_over(setup, ranks, stride).value();
}

double host_update_seconds(const Setup& setup, double parameters) {
  const int sharing = std::min(setup.gpus, setup.hardware.gpus_per_node);
  return parameters * adam_host_bytes * sharing / host_adam_rate;
}

double update_seconds(const Setup& setup, double parameters) {
  if (!setup.offload_optimizer) return memory_seconds(setup, parameters * adam_device_bytes);
  constexpr double gradient_bytes = 2, weight_bytes = 2;
  return host_update_seconds(setup, parameters) + parameters * gradient_bytes / setup.hardware.host.write.value() +
         parameters * weight_bytes / setup.hardware.host.read.value();
}

}  // namespace memo::estimate
