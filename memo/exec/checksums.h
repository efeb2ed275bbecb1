// Checksums on a tier: what comes back is what left, or an error.
#pragma once

#include <memory>
#include <string>

#include "memo/exec/tier.h"

namespace memo::exec {

// Every page of 4096 bytes that is written to `store` is hashed before (XXH3, 64 bits: a flipped bit always shows,
// other damage but for one in 2^64), on the thread that writes, and verified by the thread that reads, in whatever
// pieces. A page that differs is a run-time error, and so is one whose write failed; one that was never written is not
// verified. Offsets and sizes are multiples of a page. `name` is the tier's, for the message.
std::unique_ptr<TierStore> checksummed(std::unique_ptr<TierStore> store, std::string name);

}  // namespace memo::exec
