// Expected failures are values. An `Error` carries what the command line needs: an exit code, and one line that says
// what failed, where, and what to do.
#pragma once

#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "memo/base/units.h"

namespace memo {

// The values are the exit codes of the command (docs/formats.md).
enum class ErrorKind : int { bad_input = 2, infeasible = 3, time_limit = 4, run_time = 5, interrupted = 130 };

struct Error {
  ErrorKind kind = ErrorKind::bad_input;
  std::string message;
  std::optional<Bytes> smallest_limit = {};  // of the device, that works where the given one does not
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

inline tl::unexpected<Error> fail(ErrorKind kind, std::string message) {
  return tl::unexpected<Error>(Error{kind, std::move(message)});
}
inline tl::unexpected<Error> bad_input(std::string message) { return fail(ErrorKind::bad_input, std::move(message)); }
inline tl::unexpected<Error> run_time_error(std::string message) {
  return fail(ErrorKind::run_time, std::move(message));
}

}  // namespace memo

// MEMO_TRY(auto x, f()): x is the value of f(), or the enclosing function returns f()'s error.
#define MEMO_CONCAT2(a, b) a##b
#define MEMO_CONCAT(a, b) MEMO_CONCAT2(a, b)
#define MEMO_TRY_NAMED(result, declaration, ...)                              \
  auto result = (__VA_ARGS__);                                                \
  if (!result) return tl::unexpected<memo::Error>(std::move(result).error()); \
  declaration = *std::move(result)
#define MEMO_TRY(declaration, ...) MEMO_TRY_NAMED(MEMO_CONCAT(memo_try_, __LINE__), declaration, __VA_ARGS__)
// MEMO_CHECKED(f()): the enclosing function returns f()'s error, if any.
#define MEMO_CHECKED(...) \
  if (auto memo_status = (__VA_ARGS__); !memo_status) return tl::unexpected<memo::Error>(std::move(memo_status).error())
