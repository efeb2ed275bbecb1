// What the sorts and scans of cub ask for on the emulated GPU (cub/device/dispatch of CCCL 3, with its tuning for
// compute capability 9.0).
#pragma once

#include <cstdint>

namespace memo::cuda::emulated {

// Of a sort of `count` keys of 8 bytes, of which `bits` count, with values of 8 bytes (dispatch_radix_sort.cuh).
std::int64_t radix_sort_bytes(std::int64_t count, int bits);
// How many bits numbers up to one have (aten/src/ATen/cuda/cub.h, get_num_bits).
int bits_of(std::int64_t most);
// Of a scan or a selection of `count` items; a guess: one state for each tile, as dispatch_scan.cuh has.
std::int64_t scan_bytes(std::int64_t count);

}  // namespace memo::cuda::emulated
