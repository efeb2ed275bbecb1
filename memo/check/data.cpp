// Checks that the operands of every call lie in the arena when it runs: written or fetched before, whole sequences
// contiguous.
#include <algorithm>
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
        written_(program_.tensors.size(), -1),
        owned_(program_.residencies.size(), false) {
    index_tensors();
    group_residencies();
  }

  void run() {
    for (int k = 0; k < static_cast<int>(program_.calls.size()) && !failures_.full(); ++k) {
      const Call& call = program_.calls[static_cast<std::size_t>(k)];
      const model::Segment& segment = flow_.segments[static_cast<std::size_t>(call.segment)];
      const model::Side& side = call.phase == Phase::backward ? segment.backward : segment.forward;
      for (const Use& use : side.reads) check_use(k, use, false);
      for (const Use& use : side.writes) check_use(k, use, true);
    }
    for (std::size_t r = 0; r < program_.residencies.size() && !failures_.full(); ++r) {
      const Residency& residency = program_.residencies[r];
      if (residency.origin == Origin::produced && !owned_[r])
        failures_.add("residency {} of {} is said to be produced by {}, which does not write it there", r,
                      name_of_tensor(plan_, residency.tensor), name_of_call(plan_, residency.begin));
    }
  }

 private:
  // check_structure has checked the ranges: 12 bits of class, 16 of layer, 24 of block, 12 of group.
  static std::uint64_t key(int cls, int layer, int block, int group) {
    return (static_cast<std::uint64_t>(cls) << 52) | (static_cast<std::uint64_t>(layer) << 36) |
           (static_cast<std::uint64_t>(block) << 12) | static_cast<std::uint64_t>(group);
  }

  void index_tensors() {
    tensor_of_.reserve(program_.tensors.size());
    for (int t = 0; t < static_cast<int>(program_.tensors.size()) && !failures_.full(); ++t) {
      const Tensor& tensor = program_.tensors[static_cast<std::size_t>(t)];
      const auto [at, fresh] = tensor_of_.emplace(key(tensor.cls, tensor.layer, tensor.block, tensor.group), t);
      if (!fresh) failures_.add("tensor {}, {}, is tensor {} again", t, name_of_tensor(plan_, t), at->second);
    }
  }

  void group_residencies() {
    first_.assign(program_.tensors.size() + 1, 0);
    for (const Residency& r : program_.residencies) ++first_[static_cast<std::size_t>(r.tensor) + 1];
    for (std::size_t t = 1; t < first_.size(); ++t) first_[t] += first_[t - 1];
    by_tensor_.resize(program_.residencies.size());
    std::vector<int> next(first_.begin(), first_.end() - 1);
    for (int r = 0; r < static_cast<int>(by_tensor_.size()); ++r)
      by_tensor_[static_cast<std::size_t>(
          next[static_cast<std::size_t>(program_.residencies[static_cast<std::size_t>(r)].tensor)]++)] = r;
  }

  [[nodiscard]] bool holds(int residency, int k, bool write) const {
    const Residency& r = program_.residencies[static_cast<std::size_t>(residency)];
    if (write && !lasting(plan_, r.tensor)) return r.origin == Origin::produced && r.begin == k;
    return r.begin <= k && k < r.end && ready_[static_cast<std::size_t>(residency)] <= k;
  }

  void check_use(int k, const Use& use, bool write) {
    const Call& call = program_.calls[static_cast<std::size_t>(k)];
    const bool grouped = flow_.classes[static_cast<std::size_t>(use.cls)].grouped;
    if (!grouped)
      check_buffer(k, use, 0, write);
    else if (!use.every_group)
      check_buffer(k, use, call.group, write);
    else
      for (int g = 0; g < flow_.groups && !failures_.full(); ++g) check_buffer(k, use, g, write);
  }

  // Checks one operand: a block, or all blocks end to end. A tensor may have several residencies at a boundary, since a
  // rerun writes blocks that are also kept: any contiguous chain of residencies is accepted.
  void check_buffer(int k, const Use& use, int group, bool write) {
    const Call& call = program_.calls[static_cast<std::size_t>(k)];
    const int layer = call.layer + use.layer_shift;
    const bool one = flow_.classes[static_cast<std::size_t>(use.cls)].lasting();
    const int from = use.whole_sequence || one ? 0 : call.block;
    const int to = !use.whole_sequence ? from + 1 : call.block > 0 ? call.block : flow_.blocks();
    ends_.clear();
    for (int block = from; block < to; ++block) {
      const auto found =
          layer < 0 || layer > flow_.layers ? tensor_of_.end() : tensor_of_.find(key(use.cls, layer, block, group));
      if (found == tensor_of_.end()) {
        failures_.add("{} {} {}, which is not in the list of tensors", name_of_call(plan_, k),
                      write ? "writes" : "reads", name_of_instance(flow_, use.cls, layer, block, group));
        return;
      }
      const int tensor = found->second;
      if (write) note_write(k, tensor);
      if (!extend(k, tensor, write, block == from)) return;
    }
  }

  // Moves each of `ends_` (possible ends of a chain of blocks) past `tensor`; false when a failure was reported.
  bool extend(int k, int tensor, bool write, bool first) {
    const std::int64_t bytes = program_.tensors[static_cast<std::size_t>(tensor)].bytes.value();
    std::size_t candidates = 0;
    std::int64_t offset = 0;
    next_ends_.clear();
    for (int i = first_[static_cast<std::size_t>(tensor)]; i < first_[static_cast<std::size_t>(tensor) + 1]; ++i) {
      const int residency = by_tensor_[static_cast<std::size_t>(i)];
      if (!holds(residency, k, write)) continue;
      if (write) owned_[static_cast<std::size_t>(residency)] = true;
      ++candidates;
      offset = program_.residencies[static_cast<std::size_t>(residency)].offset.value();
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

  void note_write(int k, int tensor) {
    int& writer = written_[static_cast<std::size_t>(tensor)];
    const bool rerun = program_.calls[static_cast<std::size_t>(k)].phase == Phase::rerun;
    if (!rerun && writer >= 0 && !lasting(plan_, tensor))
      failures_.add("{} writes {}, which {} wrote already", name_of_call(plan_, k), name_of_tensor(plan_, tensor),
                    name_of_call(plan_, writer));
    if (writer < 0) writer = k;
  }

  void explain_write(int k, int tensor) {
    if (lasting(plan_, tensor)) return explain_read(k, tensor);
    failures_.add("{} writes {}, but no residency of it begins at boundary {}", name_of_call(plan_, k),
                  name_of_tensor(plan_, tensor), k);
  }

  void explain_read(int k, int tensor) {
    const std::string reads = fmt::format("{} reads {}", name_of_call(plan_, k), name_of_tensor(plan_, tensor));
    if (written_[static_cast<std::size_t>(tensor)] < 0 && !lasting(plan_, tensor)) {
      failures_.add("{} before any call has written it", reads);
      return;
    }
    int ended = -1;
    for (int i = first_[static_cast<std::size_t>(tensor)]; i < first_[static_cast<std::size_t>(tensor) + 1]; ++i) {
      const auto residency = static_cast<std::size_t>(by_tensor_[static_cast<std::size_t>(i)]);
      const Residency& r = program_.residencies[residency];
      if (r.begin <= k && k < r.end) {
        if (r.origin == Origin::produced)
          failures_.add("{} while it writes it", reads);
        else if (ready_[residency] <= static_cast<int>(program_.calls.size()))
          failures_.add("{}, but its fetch need only end by boundary {}", reads, ready_[residency]);
        else
          failures_.add("{}, but no copy fetches it", reads);
        return;
      }
      if (r.end <= k) ended = std::max(ended, r.end);
    }
    if (ended >= 0)
      failures_.add("{} after its residency ended at boundary {}", reads, ended);
    else
      failures_.add("{}, which has no residency at boundary {}", reads, k);
  }

  const Plan& plan_;
  const model::Dataflow& flow_;
  const Program& program_;
  Failures& failures_;
  std::vector<int> ready_;
  std::vector<int> written_;  // per tensor: the first call that wrote it so far, or -1
  std::vector<bool> owned_;   // per residency: a call writes it
  std::unordered_map<std::uint64_t, int> tensor_of_;
  std::vector<int> first_, by_tensor_;  // residencies of tensor t: by_tensor_[first_[t] .. first_[t + 1])
  std::vector<std::int64_t> ends_, next_ends_;
};

}  // namespace

void check_data(const Plan& plan, Failures& failures) { DataCheck(plan, failures).run(); }

}  // namespace memo::check
