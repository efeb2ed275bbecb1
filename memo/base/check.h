// Aborts on a broken invariant, with the invariant's name. Never used for bad input: that is a Result.
#pragma once

namespace memo {

[[noreturn]] void invariant_broken(const char* invariant, const char* file, int line);

}  // namespace memo

#define MEMO_CHECK(condition, invariant) \
  (static_cast<bool>(condition) ? void(0) : ::memo::invariant_broken(invariant, __FILE__, __LINE__))
