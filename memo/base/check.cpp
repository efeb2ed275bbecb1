// Prints the broken invariant and aborts.
#include "memo/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace memo {

void invariant_broken(const char* invariant, const char* file, int line) {
  std::fprintf(stderr, "memo: invariant broken: %s (%s:%d)\n", invariant, file, line);
  std::abort();
}

}  // namespace memo
