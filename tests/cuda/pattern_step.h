// A planned step whose calls do nothing but prove that the plan's bytes are where and when it says: each checks the
// pattern of every tensor that it reads, spoils its workspace, and writes the pattern of every tensor that it writes.
// All of it is enqueued on the compute stream, by functions of the CUDA runtime alone: copies and host functions stand
// for kernels, so that any runtime can play it.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "memo/exec/executor.h"
#include "memo/plan/operands.h"
#include "memo/plan/plan.h"
#include "tests/cuda/backend.h"

namespace memo::cuda {

// Word i of a tensor's content. Tensors of the step differ from step to step; a persistent one changes with each write.
inline std::uint32_t pattern_word(plan::InstanceIndex tensor, int version, std::size_t i) {
  return static_cast<std::uint32_t>(tensor.value()) * 2654435761u + static_cast<std::uint32_t>(version) * 40503u +
         static_cast<std::uint32_t>(i) * 97u;
}

class PatternStep : public exec::Compute {
 public:
  // `tier`: the plan's only one, of plan.program.tier_bytes[0]. All must outlive the step.
  PatternStep(CudaBackend& gpu, const plan::Plan& plan, exec::TierStore& tier)
      : gpu_(gpu),
        plan_(plan),
        tier_(tier),
        instances_(plan.profile.flow),
        stays_(static_cast<std::size_t>(instances_.size())),
        arena_(gpu.memory(static_cast<std::size_t>(plan.program.arena.value()))),
        fill_(sure(HostMemory::map(*gpu.device, largest(), "test"))),
        seen_(sure(HostMemory::map(*gpu.device, largest(), "test"))) {
    for (const plan::Residency& r : plan.program.residencies) stays_[number(r.tensor)].push_back(&r);
    for (const plan::Copy& copy : plan.program.copies) {
      const plan::Residency& r = plan.program.residencies[copy.residency];
      if (persistent(number(r.tensor))) places_[number(r.tensor)] = copy.tier_offset;
    }
    for (const plan::InstanceIndex t : stays_.indices()) {
      if (!persistent(t) || stays_[t].empty()) continue;
      if (places_.contains(t))
        sure(tier.write(places_[t].value(), reinterpret_cast<const std::byte*>(content(t).data()), padded(t)));
      else
        write(t, stays_[t].front()->offset);
    }
  }

  // One step; the wrong words so far are in `wrong`. Checks at its end that the tier has the newest persistent tensors.
  Result<exec::StepReport> play(exec::CopyEngine& engine) { return play(engine, plan_.program); }
  Result<exec::StepReport> play(exec::CopyEngine& engine, const plan::Program& program) {
    ++step_;
    auto report = exec::run_step(program, arena_, *this, engine);
    tasks_.clear();
    if (!report) return report;
    for (const auto& [t, offset] : places_) {
      std::vector<std::uint32_t> read(static_cast<std::size_t>(padded(t)) / 4);
      sure(tier_.read(offset.value(), reinterpret_cast<std::byte*>(read.data()), padded(t)));
      compare(read.data(), t, version(t));
    }
    return report;
  }

  std::atomic<std::int64_t> wrong = 0, checked = 0;  // words

 private:
  struct Task {
    PatternStep* self;
    plan::InstanceIndex tensor;
    int version;
  };

  Status run(plan::CallIndex call) override {
    const plan::Call& what = plan_.program.calls[call];
    const plan::Operands used = plan::operands(plan_.profile.flow, instances_, what);
    each(used.reads, call, [&](plan::InstanceIndex tensor, Bytes offset) { check_content(tensor, offset); });
    const Bytes workspace = plan_.program.transients[what.trace].bytes;
    if (workspace > Bytes(0))
      MEMO_CHECKED(check(cudaMemsetAsync(arena_ + what.workspace.value(), 0xEE,
                                         static_cast<std::size_t>(workspace.value()), compute()),
                         "spoil a workspace"));
    each(used.writes, call, [&](plan::InstanceIndex tensor, Bytes offset) {
      if (persistent(tensor)) ++versions_[tensor];
      write(tensor, offset);
    });
    return check(cudaGetLastError(), "run a call");
  }

  template <class Action>
  void each(const std::vector<plan::Operand>& operands, plan::CallIndex call, const Action& action) {
    for (const plan::Operand& operand : operands) {
      const plan::Tensor first = instances_.tensor(operand.tensor);
      for (int block = 0; block < (operand.sequence ? operand.blocks : 1); ++block) {
        const plan::InstanceIndex tensor = instances_.of(first.cls, first.layer, first.block + block, first.group);
        for (const plan::Residency* r : stays_[tensor])
          if (r->begin <= call && call < r->end) {
            action(tensor, r->offset);
            break;
          }
      }
    }
  }

  void write(plan::InstanceIndex tensor, Bytes offset) {
    launch(tensor, [](Task& task) {
      auto* word = reinterpret_cast<std::uint32_t*>(task.self->fill_.data());
      const std::size_t count = task.self->words(task.tensor);
      for (std::size_t i = 0; i < count; ++i) word[i] = pattern_word(task.tensor, task.version, i);
    });
    sure(check(
        cudaMemcpyAsync(arena_ + offset.value(), fill_.data(), 4 * words(tensor), cudaMemcpyHostToDevice, compute()),
        "write a tensor"));
  }

  void check_content(plan::InstanceIndex tensor, Bytes offset) {
    sure(check(
        cudaMemcpyAsync(seen_.data(), arena_ + offset.value(), 4 * words(tensor), cudaMemcpyDeviceToHost, compute()),
        "read a tensor"));
    launch(tensor, [](Task& task) {
      const auto* word = reinterpret_cast<const std::uint32_t*>(task.self->seen_.data());
      task.self->compare(word, task.tensor, task.version);
    });
  }

  void compare(const std::uint32_t* word, plan::InstanceIndex tensor, int version) {
    const std::size_t count = words(tensor);
    std::int64_t differ = 0;
    for (std::size_t i = 0; i < count; ++i) differ += word[i] != pattern_word(tensor, version, i);
    wrong += differ;
    checked += static_cast<std::int64_t>(count);
  }

  // `function`, as the compute stream reaches this point.
  void launch(plan::InstanceIndex tensor, void (*function)(Task&)) {
    struct Launch {
      Task task;
      void (*function)(Task&);
    };
    auto made = std::make_shared<Launch>(Launch{{this, tensor, version(tensor)}, function});
    tasks_.push_back(made);
    const auto call = [](void* data) {
      auto* launched = static_cast<Launch*>(data);
      launched->function(launched->task);
    };
    sure(check(cudaLaunchHostFunc(compute(), call, made.get()), "launch"));
  }

  [[nodiscard]] std::vector<std::uint32_t> content(plan::InstanceIndex tensor) const {
    std::vector<std::uint32_t> result(static_cast<std::size_t>(padded(tensor)) / 4);
    for (std::size_t i = 0; i < words(tensor); ++i) result[i] = pattern_word(tensor, version(tensor), i);
    return result;
  }
  [[nodiscard]] int version(plan::InstanceIndex tensor) const {
    const auto found = versions_.find(tensor);
    return persistent(tensor) ? (found == versions_.end() ? 0 : found->second) : step_;
  }
  [[nodiscard]] bool persistent(plan::InstanceIndex tensor) const {
    return plan_.profile.flow.classes[instances_.tensor(tensor).cls].persistent();
  }
  [[nodiscard]] std::size_t words(plan::InstanceIndex tensor) const {
    return static_cast<std::size_t>(instances_.tensor(tensor).bytes.value()) / 4;
  }
  [[nodiscard]] std::int64_t padded(plan::InstanceIndex tensor) const {
    return round_up(instances_.tensor(tensor).bytes, plan::copy_alignment).value();
  }
  [[nodiscard]] plan::InstanceIndex number(plan::TensorIndex tensor) const {
    return instances_.of(plan_.program.tensors[tensor]);
  }
  [[nodiscard]] Bytes largest() const {
    std::int64_t most = 4096;
    for (const plan::InstanceIndex t : stays_.indices()) most = std::max(most, padded(t));
    return Bytes(most);
  }
  [[nodiscard]] cudaStream_t compute() const { return gpu_.device->compute(); }

  CudaBackend& gpu_;
  const plan::Plan& plan_;
  exec::TierStore& tier_;
  const plan::Instances instances_;
  IndexedVector<plan::InstanceIndex, std::vector<const plan::Residency*>> stays_;
  std::map<plan::InstanceIndex, Bytes> places_;  // of persistent tensors on the tier
  std::map<plan::InstanceIndex, int> versions_;  // of persistent tensors
  std::byte* const arena_;
  const HostMemory fill_, seen_;  // used in turn, in the order of the compute stream
  std::deque<std::shared_ptr<void>> tasks_;
  int step_ = 0;
};

}  // namespace memo::cuda
