// Many setups as rows of a table, such as published measurements (docs/formats.md lists the columns), and what the
// estimate says of each.
#pragma once

#include <map>
#include <string>

#include "memo/estimate/estimate.h"
#include "memo/estimate/table.h"

namespace memo::estimate {

using Row = std::map<std::string, std::string>;

// The setup that a row describes, and what it leaves open in words; the error says why it cannot be modelled.
struct RowSetup {
  Setup setup;
  std::string note;
  bool memory_known = true;  // all that its memory hangs on is stated
};
Result<RowSetup> setup_of(const Row& row, const std::vector<Hardware>& hardware);

// `table` with pred_step_time_s, pred_tok_s_gpu, pred_mfu_causal_pct, pred_mfu_full_pct, pred_mem_gib,
// pred_host_gib_per_node, pred_fits and note appended. pred_mem_gib is of tensors, or, where mem_kind speaks of what is
// reserved or of nvidia-smi, of what a process holds. A row that cannot be modelled has only a note.
Table predict_rows(const Table& table, const std::vector<Hardware>& hardware);

}  // namespace memo::estimate
