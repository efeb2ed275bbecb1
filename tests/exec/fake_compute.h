// A plan's calls without a tensor library: each writes bytes that are a function of all that it reads, so that one
// wrong byte anywhere changes `digest`. Reruns write what their forward call wrote, and core attention is causal: equal
// digests for every placement of one dataflow.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <vector>

#include "memo/exec/executor.h"
#include "memo/exec/tier.h"
#include "memo/plan/operands.h"
#include "memo/plan/plan.h"

namespace memo::exec {

class FakeCompute : public Compute {
 public:
  // Reads and writes one word of `stride` bytes: 8 are all, a page's worth is quick.
  FakeCompute(const plan::Plan& plan, std::byte* arena, std::int64_t stride = 8)
      : plan_(plan), arena_(arena), stride_(stride), instances_(plan.profile.flow), places_(instances_, plan.program) {}

  // The content of persistent tensors before the first step, wherever they are between steps.
  Status initialise(const std::vector<TierStore*>& stores) {
    for (const plan::Residency& r : plan_.program.residencies)
      if (r.origin == plan::Origin::held) fill(arena_ + r.offset.value(), tensor(r).bytes.value(), seed(tensor(r)));
    for (const plan::Copy& copy : plan_.program.copies) {
      const plan::Residency& r = plan_.program.residencies[copy.residency];
      if (!plan_.profile.flow.classes[tensor(r).cls].persistent()) continue;
      std::byte* memory = arena_ + r.offset.value();
      fill(memory, tensor(r).bytes.value(), seed(tensor(r)));
      const std::int64_t bytes = round_up(tensor(r).bytes, plan::copy_alignment).value();
      MEMO_CHECKED(stores[static_cast<std::size_t>(copy.tier)]->write(copy.tier_offset.value(), memory, bytes));
    }
    return {};
  }

  Status run(plan::CallIndex call) override {
    const plan::Call& what = plan_.program.calls[call];
    const plan::Operands operands = plan::operands(plan_.profile.flow, instances_, what);
    const bool causal = what.phase != plan::Phase::backward;
    std::uint64_t all = 0;
    for (const int part : {what.segment.value(), causal ? 0 : 1, what.layer.value(), std::max(what.block.value(), 0),
                           std::max(what.group, 0)})
      all = mix(all ^ static_cast<std::uint64_t>(part));
    std::vector<std::uint64_t> up_to;  // of the reads, up to each block of a sequence
    for (const plan::Operand& operand : operands.reads)
      each_block(call, operand, [&](std::byte* memory, std::int64_t bytes, int i) {
        const std::uint64_t hash = hash_of(memory, bytes);
        all = mix(all ^ hash);
        up_to.resize(std::max<std::size_t>(up_to.size(), static_cast<std::size_t>(i) + 1));
        up_to[static_cast<std::size_t>(i)] = mix(up_to[static_cast<std::size_t>(i)] ^ hash);
      });
    for (std::size_t i = 1; i < up_to.size(); ++i) up_to[i] = mix(up_to[i] ^ up_to[i - 1]);
    for (const plan::Operand& operand : operands.writes)
      each_block(call, operand, [&](std::byte* memory, std::int64_t bytes, int i) {
        const plan::Tensor of = instances_.tensor(operand.tensor);
        const bool prefix = causal && operand.sequence;
        fill(memory, bytes, seed(of) ^ (prefix ? up_to[static_cast<std::size_t>(i)] : all));
      });
    const bool counts = what.phase != plan::Phase::rerun && !(operands.reads.empty() && operands.writes.empty());
    if (counts) digest += mix(all);
    return {};
  }

  std::uint64_t digest = 0;  // of all that calls have read, in any order; reruns and waits left out

 private:
  static std::uint64_t mix(std::uint64_t x) {  // splitmix64
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  std::uint64_t hash_of(const std::byte* memory, std::int64_t bytes) const {
    std::uint64_t hash = 0;
    for (std::int64_t i = 0; i < bytes; i += stride_) {
      std::uint64_t word = 0;
      std::memcpy(&word, memory + i, static_cast<std::size_t>(std::min<std::int64_t>(8, bytes - i)));
      hash = std::rotl(hash ^ word, 23) * 0x9e3779b97f4a7c15;
    }
    return hash;
  }
  void fill(std::byte* memory, std::int64_t bytes, std::uint64_t seed) const {
    for (std::int64_t i = 0; i < bytes; i += stride_) {
      const std::uint64_t word = mix(seed + static_cast<std::uint64_t>(i));
      std::memcpy(memory + i, &word, static_cast<std::size_t>(std::min<std::int64_t>(8, bytes - i)));
    }
  }
  [[nodiscard]] const plan::Tensor& tensor(const plan::Residency& r) const { return plan_.program.tensors[r.tensor]; }
  static std::uint64_t seed(const plan::Tensor& t) {
    return mix(static_cast<std::uint64_t>(t.cls.value()) << 40 ^ static_cast<std::uint64_t>(t.layer.value()) << 20 ^
               static_cast<std::uint64_t>(t.group));
  }

  template <class Visit>
  void each_block(plan::CallIndex call, const plan::Operand& operand, Visit visit) const {
    plan::Tensor tensor = instances_.tensor(operand.tensor);
    std::byte* memory = arena_ + places_.of(operand.tensor, call).offset.value();
    for (int i = 0; i < operand.blocks; ++i, ++tensor.block) {
      const std::int64_t bytes = plan_.profile.flow.bytes_of(tensor.cls, tensor.block).value();
      visit(memory, bytes, i);
      memory += bytes;
    }
  }

  const plan::Plan& plan_;
  std::byte* const arena_;
  const std::int64_t stride_;
  const plan::Instances instances_;
  const plan::Places places_;
};

}  // namespace memo::exec
