// Quantities and names as people write them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "memo/base/result.h"
#include "memo/base/units.h"

namespace memo {

// "1GiB", "512 MiB", "1.5GB", "4096" or "0". KiB, MiB, GiB, TiB are powers of 1024; kB, MB, GB, TB of 1000.
Result<Bytes> parse_bytes(std::string_view text);
// "1.00 GiB"
std::string format_bytes(Bytes bytes);
// "12.3 s", "45 ms"
std::string format_seconds(Seconds seconds);
// "1.90 GB/s"
std::string format_rate(BytesPerSecond rate);
// `text` without line breaks and other control characters: an error is one line, whatever it quotes.
std::string one_line(std::string text);
// The known name nearest to `name` by edit distance, or "" when none is near.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);
// " (did you mean 'that'?)" of the nearest known name, or "".
std::string did_you_mean(std::string_view name, const std::vector<std::string>& known);
std::string lower_case(std::string text);
// 16 lower-case hex digits of the 64-bit FNV-1a hash of `data`, continued from `seed`.
std::uint64_t fnv1a(const void* data, std::size_t size, std::uint64_t seed = 0xcbf29ce484222325ULL);
std::string hex16(std::uint64_t value);

}  // namespace memo
