// The bodies of the library fmt, for the one source that compiles them: fmt.cpp here, and libtorch/memory/fmt.cpp for
// the version that LibTorch's headers bring. All other sources use fmt's headers without bodies (no FMT_HEADER_ONLY),
// and each compiles seconds faster. Debian's shared library is not linked, since a wheel would need it where it is
// installed.
#pragma once

#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {
template auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template auto decimal_point_impl(locale_ref) -> char;
}  // namespace detail
FMT_END_NAMESPACE
