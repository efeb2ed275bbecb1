// The kernels of kernels.h and attention.h by device: each kind of device has a table of them.
#pragma once

#include "memo/libtorch/kernels/attention_table.h"
#include "memo/libtorch/kernels/kernels.h"

namespace memo::libtorch {

struct Kernels {
  std::span<const AttentionKernel> attention;
  decltype(&libtorch::cross_entropy) cross_entropy;
  decltype(&libtorch::cross_entropy_in_place) cross_entropy_in_place;
  decltype(&libtorch::add_weight_gradient) add_weight_gradient;
  decltype(&libtorch::activate) activate;
  decltype(&libtorch::activate_backward) activate_backward;
  decltype(&libtorch::normalise) normalise;
  decltype(&libtorch::normalise_backward) normalise_backward;
  decltype(&libtorch::split_heads) split_heads;
  decltype(&libtorch::split_heads_backward) split_heads_backward;
  decltype(&libtorch::sum_squares) sum_squares;
  decltype(&libtorch::gather_rows) gather_rows;
  decltype(&libtorch::add_rows) add_rows;
  decltype(&libtorch::fill_rows) fill_rows;
  decltype(&libtorch::add_row) add_row;
  decltype(&libtorch::add_column_sums) add_column_sums;
};

// The CPU's table.
const Kernels& cpu_kernels();
// Each file of kernels enters its own functions.
void attention_on_cpu(Kernels& table);
void loss_on_cpu(Kernels& table);
void matmul_on_cpu(Kernels& table);
void mlp_on_cpu(Kernels& table);
void norm_on_cpu(Kernels& table);
void rotary_on_cpu(Kernels& table);
void squares_on_cpu(Kernels& table);
void tables_on_cpu(Kernels& table);

}  // namespace memo::libtorch
