// Runs the calls of a plan on LibTorch. Operands are views of the arena and allocations get their planned addresses. A
// tensor that autograd saves is replaced by the number of the planned tensor it lies in, so that backward finds it
// wherever the plan has moved it.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memo/exec/executor.h"
#include "memo/libtorch/memory/device.h"
#include "memo/libtorch/memory/planned_memory.h"
#include "memo/libtorch/memory/saved_tensors.h"
#include "memo/libtorch/model/model_state.h"
#include "memo/libtorch/model/sample.h"
#include "memo/libtorch/model/segments.h"

namespace memo::libtorch {

class Runner final : public exec::Compute, private SavedTensorKeeper {
 public:
  // All arguments must outlive the runner. `dtype` is the compute dtype. If `state` is null, the caller owns parameters
  // and gradients. Else the runner zeroes a layer's gradients before the first call of a step that adds to them, and
  // has their squares summed after the last.
  Runner(const plan::Plan& plan, std::byte* arena, Segments& segments, ComputeDtype dtype, ModelState* state,
         Device& device);

  // Following calls work on `sample`, which has no tokens where calls are of layers alone. `first`: whether it is the
  // step's first sequence.
  void begin_sequence(const Sample& sample, bool first);
  Status run(plan::CallIndex call) override;

  // Returns, once, the exception of the last call that failed; else null.
  [[nodiscard]] std::exception_ptr take_exception() { return std::exchange(exception_, nullptr); }

  // With `look`, following calls have their results examined. `not_finite` names the first result that is not finite,
  // "" so far.
  void look_for_not_finite(bool look);
  [[nodiscard]] const std::string& not_finite() const { return not_finite_; }

  // Descriptions of departures, "segment (layer, block): what", in order; at most a few are kept.
  [[nodiscard]] const std::vector<std::string>& departures() const { return departures_; }
  [[nodiscard]] std::int64_t departure_count() const { return departure_count_; }

 private:
  struct Saved {  // a saved tensor, as part of the planned tensor it lies in
    plan::InstanceIndex tensor;
    std::int64_t byte_offset;
    std::vector<std::int64_t> sizes, strides;
    at::ScalarType dtype;
  };
  struct Gradients {  // the first and last call that adds to a group's gradients
    StateGroup group;
    plan::CallIndex first, last;
  };
  struct Held {  // a saved tensor outside of planned tensors; autograd holds it
    Held(at::Tensor saved, std::int64_t at_version) : tensor(std::move(saved)), version(at_version) {}
    at::Tensor tensor;
    std::int64_t version;
  };
  std::optional<std::any> pack(const at::Tensor& tensor) override;
  at::Tensor unpack(const std::any& handle) override;

  void run_call(plan::CallIndex call);
  [[nodiscard]] Where where(const plan::Call& call) const;
  [[nodiscard]] at::Tensor view(const PlannedOperand& operand) const;
  void check_held(plan::CallIndex call);
  void settle(plan::CallIndex call, const std::vector<at::Tensor>& results);
  void find_gradients();
  void look_at_results(plan::CallIndex call, const Gradients* measured);
  void note(plan::CallIndex call, const std::string& what);
  [[nodiscard]] std::string name(plan::CallIndex call) const;

  const plan::Plan& plan_;
  PlannedMemory memory_;
  Segments& segments_;
  ComputeDtype dtype_;
  ModelState* state_;
  Device& device_;
  std::vector<Gradients> gradients_;
  IndexedVector<plan::CallIndex, int> gradients_of_;  // by call: an index into gradients_, or -1
  Sample sample_;                                     // the current sequence, on the device
  bool first_sequence_ = true;
  plan::CallIndex current_;
  std::vector<std::weak_ptr<const Held>> held_;  // saved tensors that may be transients of the current call
  std::exception_ptr exception_;
  bool looks_ = false;
  std::string not_finite_;
  std::unordered_map<std::int64_t, Graph> graphs_;  // by segment, layer, block
  std::vector<std::string> departures_;
  std::int64_t departure_count_ = 0;
};

}  // namespace memo::libtorch
