// Reads setups from the rows of a table, such as published measurements (docs/formats.md lists the columns), and adds
// estimates to them.
#pragma once

#include <map>
#include <string>

#include "memo/estimate/estimate.h"
#include "memo/estimate/table.h"

namespace memo::estimate {

using Row = std::map<std::string, std::string>;

// The setup of a row, and in words what the row leaves open; the error says why it cannot be modelled.
struct RowSetup {
  Setup setup;
  std::string note;
  bool memory_known = true;  // false if the row leaves open something that memory depends on
};
Result<RowSetup> setup_of(const Row& row, const std::vector<Hardware>& hardware);

// `table` with the columns pred_step_time_s, pred_tok_s_gpu, pred_mfu_causal_pct, pred_mfu_full_pct, pred_mem_gib,
// pred_host_gib_per_node, pred_fits and note appended. pred_mem_gib counts tensors; where mem_kind names reserved
// memory or nvidia-smi, it counts a process's memory. A row that cannot be modelled has only a note.
Table predict_rows(const Table& table, const std::vector<Hardware>& hardware);

}  // namespace memo::estimate
