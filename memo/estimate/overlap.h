// From which context on copies cost nothing: attention grows with its square, what is saved only with itself.
#pragma once

#include <optional>

#include "memo/estimate/setup.h"

namespace memo::estimate {

// The shortest context, a multiple of 8192 tokens for each GPU that shares a sequence, at which a layer's forward takes
// as long as moving all that it saves to the host (MEMO, SIGMOD 2025, section 4.1, with alpha = 1). None: none up to
// 2^32.
std::optional<Tokens> hidden_from(Setup setup);

}  // namespace memo::estimate
