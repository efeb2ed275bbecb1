// Times of kernels and collectives on one GPU of a setup. kernels.cpp has the few constants that data sheets do not
// tell.
#pragma once

#include "memo/estimate/setup.h"

namespace memo::estimate {

// Seconds of a call, by cause.
struct Split {
  double matmul = 0, attention = 0, memory = 0, collective = 0;
  [[nodiscard]] double total() const { return matmul + attention + memory + collective; }
  Split& operator+=(const Split& other) {
    matmul += other.matmul, attention += other.attention, memory += other.memory, collective += other.collective;
    return *this;
  }
  friend Split operator*(Split split, double k) {
    return {split.matmul * k, split.attention * k, split.memory * k, split.collective * k};
  }
};

// Matrix products with this many floating point operations, over this many rows (tokens).
double matmul_seconds(const Setup& setup, double flops, double rows);
// Causal attention over `tokens` tokens; `flops` are those of the causal half.
double attention_seconds(const Setup& setup, double flops, double tokens, bool backward);
// Element-wise kernels that move this many bytes of device memory.
double memory_seconds(const Setup& setup, double bytes);

// Collectives on a tensor of `bytes` in all, over `ranks` GPUs that are `stride` apart in rank order. Each GPU sends
// and receives all but its own part (ring algorithms). An all-reduce takes both times.
double all_gather_seconds(const Setup& setup, double bytes, int ranks, int stride);
// All-to-all: each GPU holds `bytes` and keeps one part of them.
double all_to_all_seconds(const Setup& setup, double bytes, int ranks, int stride);
// Sends to one neighbour.
double send_seconds(const Setup& setup, double bytes, int ranks, int stride);

// A step of AdamW over `parameters`, on the device, or on the host including copies.
double update_seconds(const Setup& setup, double parameters);
// A step of AdamW on the host, without copies.
double host_update_seconds(const Setup& setup, double parameters);

}  // namespace memo::estimate
