// The tensors that a call reads and writes: the dataflow's table expanded for one call.
#pragma once

#include <vector>

#include "memo/model/dataflow.h"
#include "memo/plan/program.h"

namespace memo::plan {

// Numbers every instance (class, layer, block, group) of a dataflow. Layers go up to L: x and d have L + 1.
class TensorIndex {
 public:
  explicit TensorIndex(const model::Dataflow& flow);
  [[nodiscard]] int of(int cls, int layer, int block, int group) const;
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] Tensor tensor(int index) const;

 private:
  const model::Dataflow& flow_;
  std::vector<int> first_;  // of each class
  int size_ = 0;
};

// One operand of a call: a tensor, or several blocks of a sequence, from this tensor, its block 0, on.
struct Operand {
  int tensor = 0;
  bool sequence = false;
  int blocks = 1;
};

struct Operands {
  std::vector<Operand> reads, writes;  // in the table's order; every group in turn
};

Operands operands(const model::Dataflow& flow, const TensorIndex& index, const Call& call);

// The places of a program's tensors during a call.
class Places {
 public:
  Places(const TensorIndex& index, const Program& program);
  // The first residency in the program's list that holds the tensor (of the index) at the call's boundary. Aborts when
  // there is none, which a validated plan excludes for operands.
  [[nodiscard]] const Residency& of(int tensor, int call) const;

 private:
  const Program& program_;
  std::vector<std::vector<int>> residencies_;  // of each tensor of the index
};

}  // namespace memo::plan
