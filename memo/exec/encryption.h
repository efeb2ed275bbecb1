// Encryption of what lies on a tier: whoever gets hold of the disk, or of its free blocks later, reads nothing.
#pragma once

#include <memory>

#include "memo/exec/tier.h"

namespace memo::exec {

// AES-256 in XTS mode (IEEE 1619; OpenSSL, with the processor's instructions where it has them) over sectors of 4096
// bytes, each tweaked by its offset. The key is random and is nowhere but in this object, so what a process leaves on a
// disk is lost with the process: in a page that is in no core dump, never swapped where the system lets it be locked,
// and wiped at the end; what OpenSSL makes of it lives while a copy is ciphered. Offsets and sizes are multiples of
// 4096. Writes pass through a buffer of 8 MiB, reads are deciphered in place, on the thread that calls. XTS does not
// tell what was changed on the disk: `checksummed` around it does. Fails where OpenSSL has no such cipher or no
// randomness.
Result<std::unique_ptr<TierStore>> encrypted(std::unique_ptr<TierStore> store);

}  // namespace memo::exec
