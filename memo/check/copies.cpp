// Checks that every copy moves existing content, in time, between places that belong to its tensor.
#include <algorithm>
#include <array>

#include "memo/check/parts.h"

namespace memo::check {
namespace {

class CopyCheck {
 public:
  CopyCheck(const Plan& plan, Failures& failures)
      : plan_(plan),
        program_(plan.program),
        failures_(failures),
        ready_(ready_boundaries(program_)),
        first_out_(program_.tensors.size(), -1),
        next_out_(program_.copies.size(), -1),
        needed_until_(program_.copies.size()),
        fetches_(program_.residencies.size(), 0) {
    for (int c = copies() - 1; c >= 0; --c) {
      if (copy(c).direction != Direction::out) continue;
      int& first = first_out_[residency(c).tensor];
      next_out_[at(c)] = first;
      first = c;
    }
  }

  void run() {
    std::array<Boundary, 2> latest{Boundary::none(), Boundary::none()};
    for (int c = 0; c < copies() && !failures_.full(); ++c) {
      Boundary& last = latest[copy(c).direction == Direction::out ? 0 : 1];
      if (copy(c).at < last)
        failures_.add("{} starts at boundary {}, after one of its direction that starts at {}", name(c), copy(c).at,
                      last);
      last = std::max(last, copy(c).at);
      check_alignment(c);
      copy(c).direction == Direction::out ? check_out(c) : check_in(c);
    }
    for (const ResidencyIndex r : program_.residencies.indices())
      if (program_.residencies[r].origin == Origin::fetched && fetches_[r] != 1)
        failures_.add("residency {} of {} is said to be fetched, {} copies fetch it", r,
                      name_of_tensor(plan_, program_.residencies[r].tensor), fetches_[r]);
    check_extents();
  }

 private:
  [[nodiscard]] int copies() const { return static_cast<int>(program_.copies.size()); }
  [[nodiscard]] const Copy& copy(int c) const { return program_.copies[at(c)]; }
  [[nodiscard]] const Residency& residency(int c) const { return program_.residencies[copy(c).residency]; }
  [[nodiscard]] const Tier& tier(int c) const { return plan_.profile.tiers[at(copy(c).tier)]; }
  [[nodiscard]] std::string name(int c) const {
    return fmt::format("copy {} ({} of {}, tier {})", c, copy(c).direction == Direction::out ? "out" : "in",
                       name_of_tensor(plan_, residency(c).tensor), tier(c).name);
  }
  // The end of the copy's bytes on the tier.
  [[nodiscard]] std::int64_t extent_end(int c) const {
    const Bytes bytes = program_.tensors[residency(c).tensor].bytes;
    return (copy(c).tier_offset + round_up(bytes, copy_alignment)).value();
  }

  void check_alignment(int c) {
    const std::int64_t alignment = tier(c).alignment;
    if (residency(c).offset.value() % alignment != 0)
      failures_.add("{}: its arena offset {} is not a multiple of {}", name(c), residency(c).offset.value(), alignment);
    if (copy(c).tier_offset.value() % alignment != 0)
      failures_.add("{}: its tier offset {} is not a multiple of {}", name(c), copy(c).tier_offset.value(), alignment);
  }

  void check_out(int c) {
    const Boundary ready = ready_[copy(c).residency];
    if (ready > copy(c).at)
      failures_.add("{} starts at boundary {}, its content is there from boundary {}", name(c), copy(c).at, ready);
    if (residency(c).end < copy(c).before)
      failures_.add("{} need only end by boundary {}, its residency ends at {}", name(c), copy(c).before,
                    residency(c).end);
  }

  void check_in(int c) {
    if (residency(c).origin == Origin::held) return;  // host_updates.cpp
    ++fetches_[copy(c).residency];
    if (residency(c).origin != Origin::fetched)
      failures_.add("{} overwrites residency {}, which {} writes", name(c), copy(c).residency,
                    name_of_call(plan_, residency(c).begin));
    else if (residency(c).begin != copy(c).at)
      failures_.add("{} starts at boundary {}, its residency begins at {}", name(c), copy(c).at, residency(c).begin);
    if (residency(c).end < copy(c).before)
      failures_.add("{} need only end by boundary {}, its residency ends at {}", name(c), copy(c).before,
                    residency(c).end);
    if (persistent(plan_, residency(c).tensor)) return;  // persistent.cpp
    const Copy* written = nullptr;  // the last copy out to this extent that has ended, else one to it, else any
    int source = -1;
    for (int o = first_out_[residency(c).tensor]; o >= 0; o = next_out_[at(o)]) {
      if (source < 0 && (written == nullptr || !same_extent(*written, copy(c)))) written = &copy(o);
      if (!same_extent(copy(o), copy(c)) || copy(o).before > copy(c).at) continue;
      source = o;
      written = &copy(o);
    }
    if (source >= 0) {
      Boundary& until = needed_until_[at(source)];
      until = std::max(until, copy(c).before);
    }
    if (written == nullptr)
      failures_.add("{}: the tensor was never written out", name(c));
    else if (!same_extent(*written, copy(c)))
      failures_.add("{} reads tier offset {}, the tensor was written to tier {} at {}", name(c),
                    copy(c).tier_offset.value(), plan_.profile.tiers[at(written->tier)].name,
                    written->tier_offset.value());
    else if (written->before > copy(c).at)
      failures_.add("{} starts at boundary {}, the copy out need only end by {}", name(c), copy(c).at, written->before);
  }

  static bool same_extent(const Copy& a, const Copy& b) { return a.tier == b.tier && a.tier_offset == b.tier_offset; }

  struct Extent {
    std::string name;
    Rectangle taken;
  };
  void check_extents(const std::vector<Extent>& extents, std::int64_t used) {
    std::vector<Rectangle> taken;
    for (const Extent& it : extents) {
      taken.push_back(it.taken);
      if (it.taken.high > used)
        failures_.add("{} ends at {} on the tier, of which the plan uses {} bytes", it.name, it.taken.high, used);
    }
    find_overlaps(taken, [&](int a, int b) {
      const Extent &x = extents[at(a)], &y = extents[at(b)];
      failures_.add("{} and {} overlap on the tier: [{}, {}) and [{}, {})", x.name, y.name, x.taken.low, x.taken.high,
                    y.taken.low, y.taken.high);
      return !failures_.full();
    });
  }

  // An extent is occupied from the start of the write to the end of the last fetch of its content; a persistent
  // tensor's extent is always occupied.
  void check_extents() {
    const int always = program_.calls.end_index().value() + 1;
    for (int t = 0; t < static_cast<int>(program_.tier_bytes.size()); ++t) {
      std::vector<Extent> extents;
      IndexedVector<TensorIndex, bool> seen(program_.tensors.size(), false);  // persistent tensors
      for (int c = 0; c < copies() && !failures_.full(); ++c) {
        if (copy(c).tier != t) continue;
        const TensorIndex tensor = residency(c).tensor;
        if (persistent(plan_, tensor) ? seen[tensor] : copy(c).direction != Direction::out) continue;
        seen[tensor] = true;
        extents.push_back({name(c), {0, always, copy(c).tier_offset.value(), extent_end(c)}});
        if (persistent(plan_, tensor)) continue;
        extents.back().taken.begin = copy(c).at.value();
        extents.back().taken.end = std::max(copy(c).before, needed_until_[at(c)]).value();
      }
      for (const OnTier& it : program_.on_tier)
        if (it.tier == t) {
          const Bytes end = it.tier_offset + round_up(program_.tensors[it.tensor].bytes, copy_alignment);
          extents.push_back({name_of_tensor(plan_, it.tensor), {0, always, it.tier_offset.value(), end.value()}});
        }
      check_extents(extents, program_.tier_bytes[at(t)].value());
    }
    for (std::size_t t = 0; t < program_.tier_bytes.size(); ++t)
      if (program_.tier_bytes[t] > plan_.profile.tiers[t].capacity)
        failures_.add("tier {} is over capacity: {} of {} bytes", plan_.profile.tiers[t].name,
                      program_.tier_bytes[t].value(), plan_.profile.tiers[t].capacity.value());
  }

  const Plan& plan_;
  const Program& program_;
  Failures& failures_;
  IndexedVector<ResidencyIndex, Boundary> ready_;
  IndexedVector<TensorIndex, int> first_out_;  // copies out of each tensor, as linked lists
  std::vector<int> next_out_;
  std::vector<Boundary> needed_until_;  // per copy out: when the last fetch of it has ended
  IndexedVector<ResidencyIndex, int> fetches_;
};

}  // namespace

void check_copies(const Plan& plan, Failures& failures) { CopyCheck(plan, failures).run(); }

}  // namespace memo::check
