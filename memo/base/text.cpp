// Parses and prints sizes, times and rates, and finds near names.
#include "memo/base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <numeric>

namespace memo {

Result<Bytes> parse_bytes(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  const char* rest = read.ptr;
  const std::errc error = read.ec;
  while (error == std::errc() && rest != end && *rest == ' ') ++rest;
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  struct Unit {
    std::string_view name;
    double factor;
  };
  static constexpr std::array<Unit, 11> units{{{"", 1},
                                               {"B", 1},
                                               {"KiB", 1024.},
                                               {"MiB", 1048576.},
                                               {"GiB", 1073741824.},
                                               {"TiB", 1099511627776.},
                                               {"kB", 1e3},
                                               {"KB", 1e3},  // written like MB and GB
                                               {"MB", 1e6},
                                               {"GB", 1e9},
                                               {"TB", 1e12}}};
  const auto* found = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == unit; });
  const auto is_size = [&] {
    if (error != std::errc() || found == units.end() || !(number >= 0) || number * found->factor > 9e18) return false;
    return found->factor > 1 || text.find('.') == std::string_view::npos;  // a fraction of a byte is refused
  };
  if (!is_size()) return bad_input(fmt::format("'{}' is not a size; write for example \"512MiB\" or \"1.5GiB\"", text));
  return Bytes(static_cast<std::int64_t>(std::llround(number * found->factor)));
}

std::string format_bytes(Bytes bytes) {
  static constexpr std::array<const char*, 5> names{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes.value());
  std::size_t unit = 0;
  while (std::abs(value) >= 1024 && unit + 1 < names.size()) value /= 1024, ++unit;
  return unit == 0 ? fmt::format("{} B", bytes.value()) : fmt::format("{:.2f} {}", value, names[unit]);
}

std::string format_seconds(Seconds seconds) {
  const double s = seconds.value();
  if (s >= 100) return fmt::format("{:.0f} s", s);
  if (s >= 1) return fmt::format("{:.2f} s", s);
  if (s >= 1e-3) return fmt::format("{:.1f} ms", s * 1e3);
  return fmt::format("{:.1f} us", s * 1e6);
}

std::string format_rate(BytesPerSecond rate) {
  const double r = rate.value();
  return r >= 1e9 ? fmt::format("{:.2f} GB/s", r * 1e-9) : fmt::format("{:.0f} MB/s", r * 1e-6);
}

std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return std::iscntrl(c) != 0; }, ' ');
  return text;
}

namespace {
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}
}  // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) best_distance = distance, best = candidate;
  }
  return best;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& known) {
  const std::string near = nearest_name(name, known);
  return near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near);
}

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::uint64_t fnv1a(const void* data, std::size_t size, std::uint64_t seed) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < size; ++i) seed = (seed ^ bytes[i]) * 0x100000001b3ULL;
  return seed;
}

std::string hex16(std::uint64_t value) { return fmt::format("{:016x}", value); }

}  // namespace memo
