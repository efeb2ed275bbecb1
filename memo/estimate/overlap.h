// The context beyond which compute hides all copies: attention's time grows with the square of the context, saved
// tensors only linearly.
#pragma once

#include <optional>

#include "memo/estimate/setup.h"

namespace memo::estimate {

// The shortest context, a multiple of 8192 tokens for each GPU that shares a sequence, at which a layer's forward takes
// as long as moving all its saved tensors to the host (MEMO, SIGMOD 2025, section 4.1, with alpha = 1). None if there
// is none up to 2^32.
std::optional<Tokens> hidden_from(Setup setup);

}  // namespace memo::estimate
