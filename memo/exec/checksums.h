// Checksums on a tier: a read returns what was written, or an error.
#pragma once

#include <memory>
#include <string>

#include "memo/exec/tier.h"

namespace memo::exec {

// Hashes every page of 4096 bytes before it is written to `store`, on the writing thread, and verifies it on the
// reading thread, whatever pieces the read is cut into. The hash is XXH3 with 64 bits: a flipped bit always shows,
// other damage with a probability of 1 - 2^-64. A page that differs is a run-time error, and so is a page whose write
// failed; a page that was never written is not verified. Offsets and sizes are multiples of a page. `name` is the
// tier's, for messages.
std::unique_ptr<TierStore> checksummed(std::unique_ptr<TierStore> store, std::string name);

}  // namespace memo::exec
