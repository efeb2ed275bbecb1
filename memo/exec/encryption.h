// Encryption of a tier's content: a reader of the disk, or of its blocks after they were freed, learns nothing.
#pragma once

#include <memory>

#include "memo/exec/tier.h"

namespace memo::exec {

// AES-256 in XTS mode (IEEE 1619; OpenSSL, with the processor's instructions where available) over sectors of 4096
// bytes, each tweaked by its offset. The key is random and exists only in this object, so the bytes that a process
// leaves on a disk are lost with the process. The key lies in a page that is left out of core dumps, is never swapped
// where the system allows locking, and is wiped at the end; OpenSSL's key schedule lives only while a copy is ciphered.
// Offsets and sizes are multiples of 4096. Writes pass through a buffer of 8 MiB, reads are deciphered in place, on the
// calling thread. XTS does not detect changes on the disk; `checksummed` around it does. Fails where OpenSSL has no
// such cipher or no randomness.
Result<std::unique_ptr<TierStore>> encrypted(std::unique_ptr<TierStore> store);

}  // namespace memo::exec
