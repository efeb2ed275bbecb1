// Checks that the operands of every call lie in the arena when it runs: written or fetched before, whole sequences
// contiguous.
#include <algorithm>
#include <span>
#include <unordered_map>

#include "memo/check/parts.h"

namespace memo::check {
namespace {

using model::Use;

class DataCheck {
 public:
  DataCheck(const Plan& plan, Failures& failures)
      : plan_(plan),
        flow_(plan.profile.flow),
        program_(plan.program),
        failures_(failures),
        ready_(ready_boundaries(program_)),
        written_(program_.tensors.size(), CallIndex::none()),
        owned_(program_.residencies.size(), false) {
    index_tensors();
    group_residencies();
  }

  void run() {
    for (const CallIndex k : program_.calls.indices()) {
      if (failures_.full()) break;
      const Call& call = program_.calls[k];
      const model::Segment& segment = flow_.segments[call.segment];
      const model::Side& side = call.phase == Phase::backward ? segment.backward : segment.forward;
      for (const Use& use : side.reads) check_use(k, use, false);
      for (const Use& use : side.writes) check_use(k, use, true);
    }
    for (const ResidencyIndex r : program_.residencies.indices()) {
      const Residency& residency = program_.residencies[r];
      if (residency.origin == Origin::produced && !owned_[r])
        failures_.add("residency {} of {} is said to be produced by {}, which does not write it there", r,
                      name_of_tensor(plan_, residency.tensor), name_of_call(plan_, residency.begin));
    }
  }

 private:
  // check_structure has checked the ranges: 12 bits of class, 16 of layer, 24 of block, 12 of group.
  static std::uint64_t key(ClassIndex cls, LayerIndex layer, BlockIndex block, int group) {
    return (static_cast<std::uint64_t>(cls.value()) << 52) | (static_cast<std::uint64_t>(layer.value()) << 36) |
           (static_cast<std::uint64_t>(block.value()) << 12) | static_cast<std::uint64_t>(group);
  }

  void index_tensors() {
    tensor_of_.reserve(program_.tensors.size());
    for (const TensorIndex t : program_.tensors.indices()) {
      if (failures_.full()) break;
      const Tensor& tensor = program_.tensors[t];
      const auto [found, fresh] = tensor_of_.emplace(key(tensor.cls, tensor.layer, tensor.block, tensor.group), t);
      if (!fresh) failures_.add("tensor {}, {}, is tensor {} again", t, name_of_tensor(plan_, t), found->second);
    }
  }

  void group_residencies() {
    first_.assign(program_.tensors.size() + 1, 0);
    for (const Residency& r : program_.residencies) ++first_[r.tensor + 1];
    for (TensorIndex t(1); t < first_.end_index(); ++t) first_[t] += first_[t - 1];
    by_tensor_.resize(program_.residencies.size());
    IndexedVector<TensorIndex, std::size_t> next = first_;
    for (const ResidencyIndex r : program_.residencies.indices())
      by_tensor_[next[program_.residencies[r].tensor]++] = r;
  }
  [[nodiscard]] std::span<const ResidencyIndex> residencies_of(TensorIndex tensor) const {
    return std::span(by_tensor_).subspan(first_[tensor], first_[tensor + 1] - first_[tensor]);
  }

  [[nodiscard]] bool holds(ResidencyIndex residency, CallIndex k, bool write) const {
    const Residency& r = program_.residencies[residency];
    if (write && !persistent(plan_, r.tensor)) return r.origin == Origin::produced && r.begin == k;
    return r.begin <= k && k < r.end && ready_[residency] <= k;
  }

  void check_use(CallIndex k, const Use& use, bool write) {
    const Call& call = program_.calls[k];
    const bool grouped = flow_.classes[use.cls].grouped;
    if (!grouped)
      check_buffer(k, use, 0, write);
    else if (!use.every_group)
      check_buffer(k, use, call.group, write);
    else
      for (int g = 0; g < flow_.groups && !failures_.full(); ++g) check_buffer(k, use, g, write);
  }

  // Checks one operand: a block, or all blocks end to end. A tensor may have several residencies at a boundary, since a
  // rerun writes blocks that are also kept: any contiguous chain of residencies is accepted.
  void check_buffer(CallIndex k, const Use& use, int group, bool write) {
    const Call& call = program_.calls[k];
    const LayerIndex layer = call.layer + use.layer_shift;
    const bool one = flow_.classes[use.cls].persistent();
    const BlockIndex from = use.whole_sequence || one ? BlockIndex(0) : call.block;
    const BlockIndex to = !use.whole_sequence          ? from + 1
                          : call.block > BlockIndex(0) ? call.block
                                                       : BlockIndex(flow_.blocks());
    ends_.clear();
    for (BlockIndex block = from; block < to; ++block) {
      const auto found =
          !layer.within(at(flow_.layers) + 1) ? tensor_of_.end() : tensor_of_.find(key(use.cls, layer, block, group));
      if (found == tensor_of_.end()) {
        failures_.add("{} {} {}, which is not in the list of tensors", name_of_call(plan_, k),
                      write ? "writes" : "reads", name_of_instance(flow_, use.cls, layer, block, group));
        return;
      }
      const TensorIndex tensor = found->second;
      if (write) note_write(k, tensor);
      if (!extend(k, tensor, write, block == from)) return;
    }
  }

  // Moves each of `ends_` (possible ends of a chain of blocks) past `tensor`; false when a failure was reported.
  bool extend(CallIndex k, TensorIndex tensor, bool write, bool first) {
    const std::int64_t bytes = program_.tensors[tensor].bytes.value();
    std::size_t candidates = 0;
    std::int64_t offset = 0;
    next_ends_.clear();
    for (const ResidencyIndex residency : residencies_of(tensor)) {
      if (!holds(residency, k, write)) continue;
      if (write) owned_[residency] = true;
      ++candidates;
      offset = program_.residencies[residency].offset.value();
      if (first || std::find(ends_.begin(), ends_.end(), offset) != ends_.end()) next_ends_.push_back(offset + bytes);
    }
    if (write && candidates > 1)
      failures_.add("{} writes {} into {} residencies at once", name_of_call(plan_, k), name_of_tensor(plan_, tensor),
                    candidates);
    if (candidates == 0) {
      write ? explain_write(k, tensor) : explain_read(k, tensor);
      return false;
    }
    if (next_ends_.empty()) {
      failures_.add("{} {} a whole sequence, but {} lies at {}, not at {} where the block before it ends",
                    name_of_call(plan_, k), write ? "writes" : "reads", name_of_tensor(plan_, tensor), offset,
                    ends_.front());
      return false;
    }
    std::swap(ends_, next_ends_);
    return true;
  }

  void note_write(CallIndex k, TensorIndex tensor) {
    CallIndex& writer = written_[tensor];
    const bool rerun = program_.calls[k].phase == Phase::rerun;
    if (!rerun && writer.exists() && !persistent(plan_, tensor))
      failures_.add("{} writes {}, which {} wrote already", name_of_call(plan_, k), name_of_tensor(plan_, tensor),
                    name_of_call(plan_, writer));
    if (!writer.exists()) writer = k;
  }

  void explain_write(CallIndex k, TensorIndex tensor) {
    if (persistent(plan_, tensor)) return explain_read(k, tensor);
    failures_.add("{} writes {}, but no residency of it begins at boundary {}", name_of_call(plan_, k),
                  name_of_tensor(plan_, tensor), k);
  }

  void explain_read(CallIndex k, TensorIndex tensor) {
    const std::string reads = fmt::format("{} reads {}", name_of_call(plan_, k), name_of_tensor(plan_, tensor));
    if (!written_[tensor].exists() && !persistent(plan_, tensor)) {
      failures_.add("{} before any call has written it", reads);
      return;
    }
    Boundary ended = Boundary::none();
    for (const ResidencyIndex residency : residencies_of(tensor)) {
      const Residency& r = program_.residencies[residency];
      if (r.begin <= k && k < r.end) {
        if (r.origin == Origin::produced)
          failures_.add("{} while it writes it", reads);
        else if (ready_[residency] <= program_.calls.end_index())
          failures_.add("{}, but its fetch need only end by boundary {}", reads, ready_[residency]);
        else
          failures_.add("{}, but no copy fetches it", reads);
        return;
      }
      if (r.end <= k) ended = std::max(ended, r.end);
    }
    if (ended.exists())
      failures_.add("{} after its residency ended at boundary {}", reads, ended);
    else
      failures_.add("{}, which has no residency at boundary {}", reads, k);
  }

  const Plan& plan_;
  const model::Dataflow& flow_;
  const Program& program_;
  Failures& failures_;
  IndexedVector<ResidencyIndex, Boundary> ready_;
  IndexedVector<TensorIndex, CallIndex> written_;  // the first call that wrote it so far, or none
  IndexedVector<ResidencyIndex, bool> owned_;      // a call writes it
  std::unordered_map<std::uint64_t, TensorIndex> tensor_of_;
  IndexedVector<TensorIndex, std::size_t> first_;  // residencies of tensor t: by_tensor_[first_[t] .. first_[t + 1])
  std::vector<ResidencyIndex> by_tensor_;
  std::vector<std::int64_t> ends_, next_ends_;
};

}  // namespace

void check_data(const Plan& plan, Failures& failures) { DataCheck(plan, failures).run(); }

}  // namespace memo::check
