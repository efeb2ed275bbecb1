// Packs the three levels of addresses, and writes calls, residencies and copies with them.
#include "memo/planner/build.h"

#include <algorithm>
#include <map>
#include <optional>

#include "memo/base/index.h"
#include "memo/planner/iteration.h"
#include "memo/planner/packed.h"
#include "memo/planner/tier_layout.h"

namespace memo::planner {
namespace {

Transients pack_transients(const Trace& trace) {
  pack::Instance instance;
  std::vector<std::size_t> which;
  Transients result;
  result.offsets.assign(trace.requests.size(), -1);
  for (std::size_t r = 0; r < trace.requests.size(); ++r) {
    const Request& request = trace.requests[r];
    if (request.cls.exists()) continue;
    instance.push_back({request.born, request.dies, round_up(request.bytes, cache_line).value(), cache_line, {}});
    which.push_back(r);
  }
  if (instance.empty()) return result;
  const pack::Packing packing = packed(instance);
  for (std::size_t i = 0; i < which.size(); ++i) result.offsets[which[i]] = packing.offsets[i];
  result.bytes = Bytes(packing.peak);
  return result;
}

std::int64_t most_alive(const Trace& trace) {
  std::map<int, std::int64_t> change;
  for (const Request& request : trace.requests) {
    if (request.cls.exists()) continue;
    change[request.born] += request.bytes.value();
    change[request.dies] -= request.bytes.value();
  }
  std::int64_t live = 0, most = 0;
  for (const auto& [event, bytes] : change) most = std::max(most, live += bytes);
  return most;
}

// The number of slots that a ring needs when its i-th stay takes slot i mod n: each stay must end before the n-th after
// it begins.
int ring_slots(const Ring& ring, const std::vector<Stay>& stays) {
  std::size_t most = 1;
  for (std::size_t i = 0; i < ring.stays.size(); ++i) {
    const Boundary end = stays[at(ring.stays[i])].end;
    const auto next = std::partition_point(ring.stays.begin() + static_cast<std::ptrdiff_t>(i) + 1, ring.stays.end(),
                                           [&](int s) { return stays[at(s)].begin < end; });
    most = std::max(most, static_cast<std::size_t>(next - ring.stays.begin()) - i);
  }
  return static_cast<int>(most);
}

struct RingShape {
  int slots = 1;
  Bytes slot, bytes;
  Boundary begin, end;
  std::optional<std::size_t> request;  // of the iteration; none when the ring lies in a pass
  Bytes offset;
};

RingShape ring_shape(const Ring& ring, const std::vector<Stay>& stays, const Profile& profile,
                     const Instances& instances) {
  const model::TensorClass& cls = profile.flow.classes[ring.cls];
  const Bytes row = cls.row;
  RingShape shape;
  shape.begin = stays[at(ring.stays.front())].begin;
  for (int s : ring.stays) {
    shape.begin = std::min(shape.begin, stays[at(s)].begin);
    shape.end = std::max(shape.end, stays[at(s)].end);
  }
  if (cls.persistent()) {
    shape.slot = round_up(cls.layer_bytes, page);
    shape.slots = ring.slots;
    shape.bytes = shape.slot * shape.slots;
  } else if (ring.sequence) {
    BlockIndex last;
    for (int s : ring.stays) last = std::max(last, instances.tensor(stays[at(s)].tensor).block);
    shape.slot = row * profile.flow.block.value();
    shape.bytes = round_up(shape.slot * last.value() + row * profile.flow.block_tokens(last).value(), page);
  } else {
    const Bytes block = row * std::min(profile.flow.block, profile.flow.context).value();
    shape.slot = round_up(block, block.value() >= page ? page : cache_line);
    shape.slots = ring_slots(ring, stays);
    shape.bytes = shape.slot * shape.slots;
  }
  return shape;
}

class Layout {
 public:
  Layout(const Profile& profile, const Instances& instances, const PlacementMap& placement, const Schedule& schedule,
         const Residencies& residencies)
      : profile_(profile),
        instances_(instances),
        placement_(placement),
        schedule_(schedule),
        residencies_(residencies) {}

  Built build() {
    program_.calls = schedule_.calls;
    for (const Trace& trace : profile_.traces) program_.transients.push_back(pack_transients(trace));
    passes_ = pack_passes(profile_, schedule_, residencies_, program_.transients);
    request_fixed();
    request_passes();
    request_rings();
    const pack::Packing packing = packed(instance_);
    program_.arena = Bytes(packing.peak);
    place_fixed_and_passes(packing);
    place_stays();
    add_copies();
    const Bytes bound = lower_bound();
    return {std::move(program_), bound};
  }

 private:
  void request_fixed() {
    for (const Fixed& fixed : profile_.fixed)
      instance_.push_back({0, calls().value(), round_up(fixed.bytes, page).value(), page, {}});
  }
  void request_passes() {
    for (std::size_t p = 0; p < passes_.size(); ++p)
      instance_.push_back(
          {schedule_.passes[p].begin.value(), schedule_.passes[p].end.value(), passes_[p].bytes.value(), page, {}});
  }
  void request_rings() {
    std::vector<bool> in_pass(residencies_.rings.size(), false);
    for (const PassPlan& pass : passes_)
      for (int r : pass.rings) in_pass[at(r)] = true;
    for (std::size_t r = 0; r < residencies_.rings.size(); ++r) {
      shapes_.push_back(ring_shape(residencies_.rings[r], residencies_.stays, profile_, instances_));
      if (in_pass[r]) continue;
      shapes_.back().request = instance_.size();
      const RingShape& shape = shapes_.back();
      instance_.push_back({shape.begin.value(), shape.end.value(), round_up(shape.bytes, page).value(), page, {}});
    }
  }

  void place_fixed_and_passes(const pack::Packing& packing) {
    std::size_t i = 0;
    for (const Fixed& fixed : profile_.fixed) program_.fixed.push_back({Bytes(packing.offsets[i++]), fixed.bytes});
    for (std::size_t p = 0; p < passes_.size(); ++p, ++i) {
      const Bytes base(packing.offsets[i]);
      CallIndex k = schedule_.passes[p].begin;
      for (const Bytes workspace : passes_[p].workspaces) program_.calls[k++].workspace = base + workspace;
      for (std::size_t r = 0; r < passes_[p].rings.size(); ++r)
        shapes_[at(passes_[p].rings[r])].offset = base + passes_[p].ring_offsets[r];
    }
    for (RingShape& shape : shapes_)
      if (shape.request) shape.offset = Bytes(packing.offsets[*shape.request]);
  }

  // Numbers anew the tensors that some call touches, in the order of the index.
  void place_stays() {
    IndexedVector<InstanceIndex, TensorIndex> number(at(instances_.size()), TensorIndex::none());
    for (const Stay& stay : residencies_.stays)
      if (!number[stay.tensor].exists()) {
        number[stay.tensor] = program_.tensors.end_index();
        program_.tensors.push_back(instances_.tensor(stay.tensor));
      }
    program_.residencies.resize(residencies_.stays.size());
    for (std::size_t r = 0; r < residencies_.rings.size(); ++r) {
      const Ring& ring = residencies_.rings[r];
      const std::int64_t base = shapes_[r].offset.value();
      for (std::size_t i = 0; i < ring.stays.size(); ++i) {
        const Stay& stay = residencies_.stays[at(ring.stays[i])];
        const int slot = stay.slot >= 0  ? stay.slot
                         : ring.sequence ? instances_.tensor(stay.tensor).block.value()
                                         : static_cast<int>(i) % shapes_[r].slots;
        program_.residencies[ResidencyIndex(ring.stays[i])] = {
            number[stay.tensor], stay.begin, stay.end, Bytes(base + shapes_[r].slot.value() * slot), origin(stay)};
      }
    }
  }

  static Origin origin(const Stay& stay) {
    if (stay.held) return Origin::held;
    if (stay.zeroed) return Origin::zeroed;
    return stay.fetched ? Origin::fetched : Origin::produced;
  }

  void add_copies() {
    const TierLayout layout = lay_out_tiers(profile_, instances_, placement_, residencies_.stays);
    program_.tier_bytes = layout.bytes;
    for (std::size_t s = 0; s < residencies_.stays.size(); ++s) {
      const Stay& stay = residencies_.stays[s];
      const Tensor tensor = instances_.tensor(stay.tensor);
      const int tier = placement_.tier(tensor.cls, tensor.layer);
      if (stay.written_out())
        program_.copies.push_back(
            {ResidencyIndex(s), Direction::out, tier, layout.offset(stay), stay.write_at, stay.write_before});
      if (stay.fetched)
        program_.copies.push_back(
            {ResidencyIndex(s), Direction::in, tier, layout.offset(stay), stay.begin, stay.first_use});
      if (stay.refreshed())
        program_.copies.push_back(
            {ResidencyIndex(s), Direction::in, tier, layout.offset(stay), stay.refresh_at, calls()});
    }
    for (const ClassIndex cls : profile_.flow.classes.indices())
      for (const LayerIndex layer : indices<LayerIndex>(profile_.flow.layers))
        if (placement_.stays(cls, layer)) {
          const InstanceIndex tensor = instances_.of(cls, layer, BlockIndex(0), 0);
          program_.on_tier.push_back(
              {program_.tensors.end_index(), placement_.tier(cls, layer), layout.offset(tensor)});
          program_.tensors.push_back(instances_.tensor(tensor));
        }
    std::stable_sort(program_.copies.begin(), program_.copies.end(),
                     [](const Copy& a, const Copy& b) { return a.at != b.at ? a.at < b.at : a.before < b.before; });
  }

  // The bound for all requests at once, without levels.
  Bytes lower_bound() const {
    // Of a call of each trace: the most bytes of transients alive together.
    IndexedVector<TraceIndex, std::int64_t> within;
    for (const Trace& trace : profile_.traces) within.push_back(most_alive(trace));
    IndexedVector<Boundary, std::int64_t> change(schedule_.calls.size() + 1, 0);
    for (std::size_t s = 0; s < residencies_.stays.size(); ++s) {
      const Stay& stay = residencies_.stays[s];
      const std::int64_t bytes = instances_.tensor(stay.tensor).bytes.value();
      change[stay.begin] += bytes;
      change[stay.end] -= bytes;
    }
    std::int64_t live = 0, most = 0;
    for (const Fixed& fixed : profile_.fixed) live += fixed.bytes.value();
    for (const CallIndex k : schedule_.calls.indices()) {
      live += change[k];
      most = std::max(most, live + within[schedule_.calls[k].trace]);
    }
    return Bytes(most);
  }

  CallIndex calls() const { return schedule_.calls.end_index(); }

  const Profile& profile_;
  const Instances& instances_;
  const PlacementMap& placement_;
  const Schedule& schedule_;
  const Residencies& residencies_;
  pack::Instance instance_;
  std::vector<RingShape> shapes_;
  std::vector<PassPlan> passes_;
  Program program_;
};

}  // namespace

Built build_program(const Profile& profile, const std::vector<ClassPlacement>& placement, const Pace& pace) {
  const Instances instances(profile.flow);
  const PlacementMap places(profile.flow, placement);
  const Schedule calls = schedule(profile, places, pace.early_updates);
  const Residencies stays = residencies(profile, instances, places, calls, pace);
  return Layout(profile, instances, places, calls, stays).build();
}

}  // namespace memo::planner
