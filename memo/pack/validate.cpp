// The independent check of a packing: one sweep over time, with the live buffers sorted by address.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "memo/pack/pack.h"

namespace memo::pack {

std::vector<std::pair<std::size_t, std::size_t>> overlaps(const Instance& instance,
                                                          const std::vector<std::int64_t>& offsets, std::size_t most) {
  struct Life {
    std::int64_t lower, upper;
    std::size_t buffer;
  };
  std::vector<Life> by_lower;
  for (std::size_t i = 0; i < instance.size(); ++i) {
    std::int64_t lower = instance[i].lower;
    for (const Gap& gap : instance[i].gaps) {
      by_lower.push_back({lower, gap.lower, i});
      lower = gap.upper;
    }
    by_lower.push_back({lower, instance[i].upper, i});
  }
  std::vector<Life> by_upper = by_lower;
  std::sort(by_lower.begin(), by_lower.end(), [](const Life& a, const Life& b) { return a.lower < b.lower; });
  std::sort(by_upper.begin(), by_upper.end(), [](const Life& a, const Life& b) { return a.upper < b.upper; });

  std::vector<std::pair<std::size_t, std::size_t>> found;
  const auto report = [&](std::size_t a, std::size_t b) {
    const std::pair<std::size_t, std::size_t> pair(a, b);
    if (std::find(found.begin(), found.end(), pair) == found.end()) found.push_back(pair);
  };
  std::map<std::int64_t, std::size_t> live;  // by offset; disjoint, so only neighbours need to be compared
  auto dead = by_upper.begin();
  for (const Life& life : by_lower) {
    const std::size_t i = life.buffer;
    for (; dead->upper <= life.lower; ++dead)
      if (const auto it = live.find(offsets[dead->buffer]); it != live.end() && it->second == dead->buffer)
        live.erase(it);
    const auto above = live.lower_bound(offsets[i]);
    bool apart = true;
    if (above != live.end() && above->first - offsets[i] < instance[i].size) {
      report(above->second, i);
      apart = false;
    }
    if (above != live.begin()) {
      const auto below = std::prev(above);
      if (offsets[i] - below->first < instance[below->second].size) {
        report(below->second, i);
        apart = false;
      }
    }
    if (found.size() >= most) break;
    if (apart) live.emplace(offsets[i], i);
  }
  if (found.size() > most) found.resize(most);
  return found;
}

std::vector<std::string> validate(const Instance& instance, const std::vector<std::int64_t>& offsets,
                                  std::optional<std::int64_t> capacity, std::size_t most) {
  if (offsets.size() != instance.size())
    return {fmt::format("count: {} offsets for {} buffers", offsets.size(), instance.size())};
  std::vector<std::string> failures;
  const auto report = [&](std::string line) {
    if (failures.size() < most) failures.push_back(std::move(line));
  };
  Instance sound;  // the buffers that occupy addresses, to be compared with each other
  std::vector<std::int64_t> sound_offsets;
  std::vector<std::size_t> names;
  for (std::size_t i = 0; i < instance.size(); ++i) {
    const Buffer& b = instance[i];
    const std::int64_t offset = offsets[i];
    if (b.size <= 0 || b.lower >= b.upper || b.alignment <= 0) {
      report(fmt::format("malformed: buffer {} lives in [{}, {}) with size {} and alignment {}", i, b.lower, b.upper,
                         b.size, b.alignment));
      continue;
    }
    std::int64_t alive_from = b.lower;
    for (const Gap& gap : b.gaps) {
      if (gap.lower <= alive_from || gap.lower >= gap.upper || gap.upper >= b.upper)
        report(fmt::format("malformed: buffer {} has a gap [{}, {}) that is empty or not inside of its life", i,
                           gap.lower, gap.upper));
      alive_from = gap.upper;
    }
    if (offset < 0) {
      report(fmt::format("negative offset: buffer {} at {}", i, offset));
      continue;
    }
    if (offset > std::numeric_limits<std::int64_t>::max() - b.size) {
      report(fmt::format("overflow: buffer {} of size {} at {}", i, b.size, offset));
      continue;
    }
    if (offset % b.alignment != 0)
      report(fmt::format("misaligned: buffer {} at {} needs a multiple of {}", i, offset, b.alignment));
    if (b.fixed && *b.fixed != offset)
      report(fmt::format("moved: buffer {} at {} is fixed at {}", i, offset, *b.fixed));
    if (capacity && offset + b.size > *capacity)
      report(fmt::format("over capacity: buffer {} ends at {} of {}", i, offset + b.size, *capacity));
    sound.push_back(b);
    sound_offsets.push_back(offset);
    names.push_back(i);
  }
  const auto end = [&](std::size_t i) { return sound_offsets[i] + sound[i].size; };
  for (const auto& [a, b] : overlaps(sound, sound_offsets, most - failures.size()))
    report(fmt::format("overlap: buffers {} at [{}, {}) and {} at [{}, {}) both live at time {}", names[a],
                       sound_offsets[a], end(a), names[b], sound_offsets[b], end(b),
                       std::max(sound[a].lower, sound[b].lower)));
  return failures;
}

}  // namespace memo::pack
