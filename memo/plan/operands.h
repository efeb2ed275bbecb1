// The tensors that a call reads and writes: the dataflow's table expanded for one call.
#pragma once

#include <vector>

#include "memo/model/dataflow.h"
#include "memo/plan/program.h"

namespace memo::plan {

using InstanceIndex = Index<struct InstanceTag>;

// Numbers every instance (class, layer, block, group) of a dataflow. Layers go up to L: x and d have L + 1.
class Instances {
 public:
  explicit Instances(const model::Dataflow& flow);
  [[nodiscard]] InstanceIndex of(ClassIndex cls, LayerIndex layer, BlockIndex block, int group) const;
  [[nodiscard]] InstanceIndex of(const Tensor& t) const { return of(t.cls, t.layer, t.block, t.group); }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] Tensor tensor(InstanceIndex index) const;

 private:
  const model::Dataflow& flow_;
  IndexedVector<ClassIndex, int> first_;
  int size_ = 0;
};

// One operand of a call: a tensor, or several blocks of a sequence, from this tensor, its block 0, on.
struct Operand {
  InstanceIndex tensor;
  bool sequence = false;
  int blocks = 1;
};

struct Operands {
  std::vector<Operand> reads, writes;  // in the table's order; every group in turn
};

Operands operands(const model::Dataflow& flow, const Instances& instances, const Call& call);

// The places of a program's tensors during a call.
class Places {
 public:
  Places(const Instances& instances, const Program& program);
  // The first residency in the program's list that holds the tensor at the call's boundary. Aborts when
  // there is none, which a validated plan excludes for operands.
  [[nodiscard]] const Residency& of(InstanceIndex tensor, CallIndex call) const;

 private:
  const Program& program_;
  IndexedVector<InstanceIndex, std::vector<ResidencyIndex>> residencies_;
};

// What an update on the host reads or writes on its tier.
struct TierOperand {
  TensorIndex tensor;
  int tier = 0;
  Bytes offset;
  bool write = false;
};
std::vector<TierOperand> host_operands(const model::Dataflow& flow, const Program& program, const Call& call);

}  // namespace memo::plan
