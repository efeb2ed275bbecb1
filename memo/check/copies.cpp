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
        needed_until_(program_.copies.size(), 0),
        fetches_(program_.residencies.size(), 0) {
    for (int c = static_cast<int>(program_.copies.size()) - 1; c >= 0; --c) {
      if (copy(c).direction != Direction::out) continue;
      int& first = first_out_[static_cast<std::size_t>(residency(c).tensor)];
      next_out_[static_cast<std::size_t>(c)] = first;
      first = c;
    }
  }

  void run() {
    std::array<int, 2> latest{-1, -1};
    for (int c = 0; c < static_cast<int>(program_.copies.size()) && !failures_.full(); ++c) {
      int& last = latest[copy(c).direction == Direction::out ? 0 : 1];
      if (copy(c).at < last)
        failures_.add("{} starts at boundary {}, after one of its direction that starts at {}", name(c), copy(c).at,
                      last);
      last = std::max(last, copy(c).at);
      check_alignment(c);
      copy(c).direction == Direction::out ? check_out(c) : check_in(c);
    }
    for (std::size_t r = 0; r < fetches_.size() && !failures_.full(); ++r)
      if (program_.residencies[r].origin == Origin::fetched && fetches_[r] != 1)
        failures_.add("residency {} of {} is said to be fetched, {} copies fetch it", r,
                      name_of_tensor(plan_, program_.residencies[r].tensor), fetches_[r]);
    check_extents();
  }

 private:
  [[nodiscard]] const Copy& copy(int c) const { return program_.copies[static_cast<std::size_t>(c)]; }
  [[nodiscard]] const Residency& residency(int c) const {
    return program_.residencies[static_cast<std::size_t>(copy(c).residency)];
  }
  [[nodiscard]] const Tier& tier(int c) const { return plan_.profile.tiers[static_cast<std::size_t>(copy(c).tier)]; }
  [[nodiscard]] std::string name(int c) const {
    return fmt::format("copy {} ({} of {}, tier {})", c, copy(c).direction == Direction::out ? "out" : "in",
                       name_of_tensor(plan_, residency(c).tensor), tier(c).name);
  }
  // The end of the copy's bytes on the tier.
  [[nodiscard]] std::int64_t extent_end(int c) const {
    const Bytes bytes = program_.tensors[static_cast<std::size_t>(residency(c).tensor)].bytes;
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
    const int ready = ready_[static_cast<std::size_t>(copy(c).residency)];
    if (ready > copy(c).at)
      failures_.add("{} starts at boundary {}, its content is there from boundary {}", name(c), copy(c).at, ready);
    if (residency(c).end < copy(c).before)
      failures_.add("{} need only end by boundary {}, its residency ends at {}", name(c), copy(c).before,
                    residency(c).end);
  }

  void check_in(int c) {
    ++fetches_[static_cast<std::size_t>(copy(c).residency)];
    if (residency(c).origin != Origin::fetched)
      failures_.add("{} overwrites residency {}, which {} writes", name(c), copy(c).residency,
                    name_of_call(plan_, residency(c).begin));
    else if (residency(c).begin != copy(c).at)
      failures_.add("{} starts at boundary {}, its residency begins at {}", name(c), copy(c).at, residency(c).begin);
    if (residency(c).end < copy(c).before)
      failures_.add("{} need only end by boundary {}, its residency ends at {}", name(c), copy(c).before,
                    residency(c).end);
    if (lasting(plan_, residency(c).tensor)) return;  // validate_lasting.cpp
    const Copy* written = nullptr;  // the last copy out to this extent that has ended, else one to it, else any
    int source = -1;
    for (int o = first_out_[static_cast<std::size_t>(residency(c).tensor)]; o >= 0;
         o = next_out_[static_cast<std::size_t>(o)]) {
      if (source < 0 && (written == nullptr || !same_extent(*written, copy(c)))) written = &copy(o);
      if (!same_extent(copy(o), copy(c)) || copy(o).before > copy(c).at) continue;
      source = o;
      written = &copy(o);
    }
    if (source >= 0) {
      int& until = needed_until_[static_cast<std::size_t>(source)];
      until = std::max(until, copy(c).before);
    }
    if (written == nullptr)
      failures_.add("{}: the tensor was never written out", name(c));
    else if (!same_extent(*written, copy(c)))
      failures_.add("{} reads tier offset {}, the tensor was written to tier {} at {}", name(c),
                    copy(c).tier_offset.value(), plan_.profile.tiers[static_cast<std::size_t>(written->tier)].name,
                    written->tier_offset.value());
    else if (written->before > copy(c).at)
      failures_.add("{} starts at boundary {}, the copy out need only end by {}", name(c), copy(c).at, written->before);
  }

  static bool same_extent(const Copy& a, const Copy& b) { return a.tier == b.tier && a.tier_offset == b.tier_offset; }

  // An extent is occupied from the start of the write to the end of the last fetch of its content; a persistent
  // tensor's extent is always occupied.
  void check_extents() {
    for (int t = 0; t < static_cast<int>(program_.tier_bytes.size()); ++t) {
      std::vector<int> outs;
      std::vector<Rectangle> taken;
      std::vector<bool> seen(program_.tensors.size(), false);  // lasting tensors
      for (int c = 0; c < static_cast<int>(program_.copies.size()) && !failures_.full(); ++c) {
        if (copy(c).tier != t) continue;
        const auto tensor = static_cast<std::size_t>(residency(c).tensor);
        if (lasting(plan_, residency(c).tensor) ? seen[tensor] : copy(c).direction != Direction::out) continue;
        seen[tensor] = true;
        outs.push_back(c);
        if (lasting(plan_, residency(c).tensor))
          taken.push_back({0, static_cast<int>(program_.calls.size()) + 1, copy(c).tier_offset.value(), extent_end(c)});
        else
          taken.push_back({copy(c).at, std::max(copy(c).before, needed_until_[static_cast<std::size_t>(c)]),
                           copy(c).tier_offset.value(), extent_end(c)});
        if (extent_end(c) > program_.tier_bytes[static_cast<std::size_t>(t)].value())
          failures_.add("{} ends at {} on the tier, of which the plan uses {} bytes", name(c), extent_end(c),
                        program_.tier_bytes[static_cast<std::size_t>(t)].value());
      }
      find_overlaps(taken, [&](int a, int b) {
        const int x = outs[static_cast<std::size_t>(a)], y = outs[static_cast<std::size_t>(b)];
        failures_.add("{} and {} overlap on the tier: [{}, {}) and [{}, {})", name(x), name(y),
                      copy(x).tier_offset.value(), extent_end(x), copy(y).tier_offset.value(), extent_end(y));
        return !failures_.full();
      });
    }
    for (std::size_t t = 0; t < program_.tier_bytes.size(); ++t)
      if (program_.tier_bytes[t] > plan_.profile.tiers[t].capacity)
        failures_.add("tier {} is over capacity: {} of {} bytes", plan_.profile.tiers[t].name,
                      program_.tier_bytes[t].value(), plan_.profile.tiers[t].capacity.value());
  }

  const Plan& plan_;
  const Program& program_;
  Failures& failures_;
  std::vector<int> ready_;
  std::vector<int> first_out_, next_out_;  // copies out of each tensor, as linked lists
  std::vector<int> needed_until_;          // per copy out: when the last fetch of it has ended
  std::vector<int> fetches_;               // per residency
};

}  // namespace

void check_copies(const Plan& plan, Failures& failures) { CopyCheck(plan, failures).run(); }

}  // namespace memo::check
