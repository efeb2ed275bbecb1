// Checksums on a tier: what comes back is what left, or an error.
#pragma once

#include <memory>
#include <string>

#include "memo/exec/tier.h"

namespace memo::exec {

// Whatever is written to `store` is hashed before (XXH3, 64 bits: a flipped bit always shows, other damage but for one
// in 2^64), on the thread that writes, and verified by the thread that reads. A read that differs is a run-time error,
// and so is one of a range that was written in other pieces, or whose write failed; one that nothing was written to is
// not verified. `name` is the tier's, for the message.
std::unique_ptr<TierStore> checksummed(std::unique_ptr<TierStore> store, std::string name);

}  // namespace memo::exec
