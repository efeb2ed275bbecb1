// Times of kernels and collectives on one GPU of a setup. The few constants that no data sheet tells are in
// kernels.cpp.
#pragma once

#include "memo/estimate/setup.h"

namespace memo::estimate {

// Where the time of a call goes, seconds.
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

// Products of so many floating point operations, over so many rows (tokens).
double matmul_seconds(const Setup& setup, double flops, double rows);
// Causal attention of `tokens` tokens: `flops` of the causal half.
double attention_seconds(const Setup& setup, double flops, double tokens, bool backward);
// Element-wise kernels that move so many bytes of device memory.
double memory_seconds(const Setup& setup, double bytes);

// Of a tensor of `bytes` in all, over `ranks` GPUs that lie `stride` apart in rank order: each sends and receives all
// but its own part (ring algorithms). An all-reduce is both.
double all_gather_seconds(const Setup& setup, double bytes, int ranks, int stride);
// Each GPU holds `bytes` and keeps one part of them.
double all_to_all_seconds(const Setup& setup, double bytes, int ranks, int stride);
// One neighbour to another.
double send_seconds(const Setup& setup, double bytes, int ranks, int stride);

// A step of AdamW over `parameters` where they lie: on the device, or on the host with its copies.
double update_seconds(const Setup& setup, double parameters);

}  // namespace memo::estimate
