// Into how many parts of the keys dense flash attention splits its work (flash_api.cpp, set_params_splitkv and
// num_splits_heuristic): so many that the device's multiprocessors are busy.
#pragma once

#include <cstdint>

namespace memo::cuda::emulated {

int multiprocessors();  // of the current device
// `rows` and `keys`: of one sequence.
int splits_of(std::int64_t batch_heads, std::int64_t rows, std::int64_t keys, std::int64_t dim);

}  // namespace memo::cuda::emulated
