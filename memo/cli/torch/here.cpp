// Measures this machine with training's kernels.
#include "memo/cli/here.h"

#include "memo/cli/machine.h"
#include "memo/libtorch/measure/rates.h"

namespace memo::cli {

Result<estimate::Hardware> measure_here(const Path& disk, const model::Shape& shape) {
  const Machine machine = look_at_machine();
  MEMO_TRY(const Disk measured, measure_disk(disk, machine.cores));
  const libtorch::ComputeRates rates = libtorch::measure_rates(shape);
  estimate::Hardware here;
  here.name = "here";
  here.peak = here.matmul = rates.matmul;
  here.memory = machine.memory.limit.value_or(machine.memory.total);
  here.memory_rate = rates.memory;
  here.gpus_per_node = 1;
  here.host_memory = measured.free;
  here.tier = "disk";
  const exec::TierRates& copies = measured.rates;
  here.host = {copies.write, copies.read, copies.write_with_read, copies.read_with_write, copies.compute_slowdown};
  here.attention = {{"memo", rates.attention_forward, rates.attention_backward, rates.attention_half}};
  here.shares = {.matmul = 1, .fp8 = 1, .matmul_half = 0, .attention = 1, .memory = 1, .link = 1};  // all are measured
  here.runtime = Bytes(0);
  here.sizes = {.gpu = false, .threads = machine.cores};
  here.source = "measured";
  return here;
}

}  // namespace memo::cli
