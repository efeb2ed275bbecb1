// Up to which length a GPU adds the gradients of attention in one order, so that they have the same bits in every run.
#pragma once

#include <cstdint>

namespace memo::model {

// In tokens. One order needs memory as for about 132 query heads, 4.3 GiB here for heads of 128, whatever the head
// group.
inline constexpr std::int64_t longest_in_order = 65536;

}  // namespace memo::model
