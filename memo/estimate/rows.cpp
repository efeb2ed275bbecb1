// Translates the words of published tables into setups.
#include "memo/estimate/rows.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "memo/base/text.h"

namespace memo::estimate {
namespace {

// A row's cells by column, and the assumptions made for it.
class RowReader {
 public:
  explicit RowReader(const Row& row) : row_(row) {}

  [[nodiscard]] std::string text(const char* column) const {
    const auto found = row_.find(column);
    return found == row_.end() ? "" : found->second;
  }
  [[nodiscard]] bool has(const char* column, std::string_view part) const {
    return lower_case(text(column)).find(part) != std::string::npos;
  }
  [[nodiscard]] bool says_yes(const char* column) const { return has(column, "yes"); }
  // A whole number, or `otherwise` if the cell is empty; the first cell that is neither is an error.
  std::int64_t number(const char* column, std::int64_t otherwise) {
    const std::string cell = text(column);
    if (cell.empty()) return otherwise;
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    if (error == std::errc() && end == cell.data() + cell.size() && value > 0) return value;
    if (error_.empty()) error_ = fmt::format("{} is '{}', not a whole number", column, cell);
    return otherwise;
  }
  std::int64_t needed(const char* column) {
    if (text(column).empty() && error_.empty()) error_ = fmt::format("the source does not say {}", column);
    return number(column, 1);
  }
  void fail(const std::string& why) {
    if (error_.empty()) error_ = why;
  }
  void note(const std::string& what) { notes_.push_back(what); }

  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] std::string notes() const { return fmt::format("{}", fmt::join(notes_, "; ")); }

 private:
  const Row& row_;
  std::string error_;
  std::vector<std::string> notes_;
};

// Megatron-LM and systems based on it: the systems FPDT compares with (TP, UL, Ulysses) are Megatron-DeepSpeed.
bool of_megatron(const RowReader& row) {
  for (const char* part : {"mega", "nemo", "memo", "tp", "ul+", "ulysses"})
    if (row.has("system", part)) return true;
  return false;
}

model::Shape read_shape(RowReader& row) {
  const bool gpt = row.has("model", "gpt") || row.has("model", "mpt");
  const Result<const model::Family*> family = model::find_family(gpt ? "gpt2" : "llama", "");
  model::Shape shape = (*family)->defaults;
  shape.family = (*family)->name;
  if (row.has("ffn", "expert")) row.fail("mixtures of experts are not modelled");
  shape.hidden = row.needed("hidden"), shape.layers = row.needed("layers"), shape.heads = row.needed("heads");
  shape.kv_heads = row.number("kv_heads", shape.heads);
  shape.head_dim = row.number("head_dim", shape.hidden / shape.heads);
  shape.ffn = row.needed("ffn"), shape.vocab = row.needed("vocab");
  shape.tied = gpt || row.says_yes("tied");
  return shape;
}

void read_degrees(RowReader& row, Setup& setup) {
  Degrees& d = setup.degrees;
  const auto degree = [&](const char* column) { return static_cast<int>(row.number(column, 1)); };
  d.tensor = degree("tp"), d.ulysses = degree("ulysses"), d.pipeline = degree("pp"), d.stages = degree("vp");
  d.ring = std::max(degree("cp"), degree("ring"));
  d.sequence = row.says_yes("sp_megatron") || of_megatron(row);
  const int others = d.tensor * d.ulysses * d.pipeline * d.ring;
  if (setup.gpus % others != 0) row.fail(fmt::format("degrees of {} do not divide {} GPUs", others, setup.gpus));
  const bool told = others > 1 || setup.gpus == 1 || !row.text("dp").empty() || !row.text("shard").empty();
  if (!told) row.fail("the source does not say how the model is split over its GPUs");
  d.data = static_cast<int>(row.number("dp", std::max(1, setup.gpus / others)));
  setup.sequences = static_cast<int>(row.number("micro_batch", 1));
  const std::int64_t together = std::int64_t{1} * setup.sequences * d.data;
  const std::int64_t batch = row.number("global_batch", together);
  // A row's accumulation may also count the sequences of a group that splits the sequence; the batch decides.
  setup.micro_batches = static_cast<int>(std::max<std::int64_t>(1, batch / together));
}

void read_memory(RowReader& row, Setup& setup) {
  const bool fsdp = row.has("shard", "fsdp");
  if (fsdp || row.has("shard", "zero-3"))
    setup.shard = Shard::weights;
  else if (row.has("shard", "zero-2"))
    setup.shard = Shard::gradients;
  else if (row.has("shard", "zero-1") || row.has("shard", "distributed optimizer"))
    setup.shard = Shard::optimizer;
  else if (row.has("shard", "zero"))
    setup.shard = Shard::weights, row.note("ZeRO's stage taken as 3");
  else
    setup.shard = Shard::none;
  const bool megatron = of_megatron(row);
  if (setup.shard == Shard::none && megatron && setup.shards() > 1)
    setup.shard = Shard::optimizer, row.note("taken with a distributed optimizer");
  else if (setup.shard == Shard::none && setup.shards() > 1)
    row.fail("the source does not say how state is shared out");
  setup.state = row.has("shard", "zero") ? State::zero : megatron ? State::mixed : fsdp ? State::master : State::zero;
  if (row.has("precision", "bf16 params")) setup.state = State::pure;

  const std::string recompute = row.text("recompute");
  setup.recompute = row.has("recompute", "full")        ? Recompute::full
                    : row.has("recompute", "selective") ? Recompute::selective
                                                        : Recompute::none;
  if (recompute.empty()) row.note("recomputation not stated: time without it, no memory");
  setup.offload_inputs = row.has("act_offload", "checkpoints");
  setup.offload_all = row.has("act_offload", "token-wise");
  setup.offload_optimizer = row.says_yes("opt_offload");
  setup.offload_weights = row.says_yes("param_offload");
}

void read_execution(RowReader& row, Setup& setup) {
  const bool fused = of_megatron(row) || row.says_yes("compile") || row.has("system", "unsloth");
  const bool chunks = row.has("act_offload", "chunked");  // FPDT's chunks are modelled as Memo's blocks
  setup.execution = setup.offload_all || chunks ? Execution::blocks : fused ? Execution::fused : Execution::eager;
  // torch.compile needs no log-softmax; Megatron's loss works in its float32 copy, flash-attention's (which Composer
  // uses) in the logits.
  setup.logit_bytes = row.has("system", "composer")         ? 2 + 2
                      : setup.execution == Execution::eager ? 2 + 4 + 4 + 4
                      : row.says_yes("compile")             ? 2 + 4 + 4
                                                            : 2 + 4;
  for (const char* part : {"tiled", "chunked", "liger", "mini-sequence"})
    if (row.has("loss_impl", part)) setup.tiled_loss = true;
  setup.tiled_mlp = row.says_yes("mlp_tiling");
  setup.block = usual_block(setup.local_tokens());
  setup.fp8 = row.has("precision", "fp8");
  if (row.has("precision", "fp4")) row.fail("4-bit products are not modelled");
  if (row.has("attn_kernel", "attn 3"))
    setup.attention = "flash3";
  else if (row.has("attn_kernel", "cudnn"))
    setup.attention = "cudnn";
  else if (row.has("attn_kernel", "flash") || row.has("attn_kernel", "sdpa"))
    setup.attention = "flash2";
  // MPT's attention has a bias. At 65K tokens its published rates exceed those of kernels that skip the masked half.
  setup.whole_square = row.has("system", "composer");
  if (setup.whole_square) row.note("attention taken to compute the masked half too");
  for (const char* mode : {"lora", "dpo"})
    if (row.has("train_mode", mode)) row.fail(fmt::format("{} is not modelled", row.text("train_mode")));
}

std::string gib(Bytes bytes) { return fmt::format("{:.2f}", static_cast<double>(bytes.value()) / (1 << 30)); }

std::vector<std::string> predict(const Row& row, const std::vector<Hardware>& hardware) {
  std::vector<std::string> cells(7);
  const auto only_note = [&](const std::string& note) {
    cells.push_back(note);
    return cells;
  };
  const Result<RowSetup> read = setup_of(row, hardware);
  if (!read) return only_note(read.error().message);
  const Result<Estimate> found = estimate(read->setup);
  if (!found) return only_note(found.error().message);
  if (found->step == Seconds(0)) {
    cells[6] = "no";
    return only_note(found->reason);
  }
  const auto kind = row.find("mem_kind");
  const bool whole_process = kind != row.end() && (kind->second.find("reserved") != std::string::npos ||
                                                   kind->second.find("nvidia-smi") != std::string::npos);
  cells = {fmt::format("{:.4g}", found->step.value()),
           fmt::format("{:.5g}", found->tokens_per_second_gpu),
           fmt::format("{:.2f}", 100 * found->mfu_causal),
           fmt::format("{:.2f}", 100 * found->mfu_full),
           gib(whole_process ? found->reserved : found->allocated),
           gib(found->host_per_node),
           found->fits ? "yes" : "no"};
  std::string note = read->note;
  if (!read->memory_known) {
    for (const std::size_t memory : {4, 5, 6}) cells[memory].clear();
    cells.push_back(note);
    return cells;
  }
  if (!found->fits) note += (note.empty() ? "" : "; ") + found->reason;
  cells.push_back(note);
  return cells;
}

}  // namespace

Result<RowSetup> setup_of(const Row& cells, const std::vector<Hardware>& hardware) {
  RowReader row(cells);
  RowSetup result;
  Setup& setup = result.setup;
  setup.system = row.text("system");
  setup.model_name = row.text("model");
  setup.shape = read_shape(row);
  setup.gpus = static_cast<int>(row.needed("n_gpus"));
  setup.context = Tokens(row.needed("seq_len"));
  read_degrees(row, setup);
  read_memory(row, setup);
  read_execution(row, setup);
  if (!row.error().empty()) return bad_input(row.error());
  MEMO_TRY(setup.hardware, find_hardware(row.text("gpu"), hardware));
  const int per_node = static_cast<int>(row.number("gpus_per_node", setup.hardware.gpus_per_node));
  setup.hardware.gpus_per_node = per_node;
  if (const std::int64_t host = row.number("host_mem_gb_per_node", 0); host > 0)
    setup.hardware.host_memory = Bytes(host * 1'000'000'000);
  if (!row.error().empty()) return bad_input(row.error());
  result.note = row.notes();
  result.memory_known = !row.text("recompute").empty();
  return result;
}

Table predict_rows(const Table& table, const std::vector<Hardware>& hardware) {
  Table result = table;
  for (const char* column : {"pred_step_time_s", "pred_tok_s_gpu", "pred_mfu_causal_pct", "pred_mfu_full_pct",
                             "pred_mem_gib", "pred_host_gib_per_node", "pred_fits", "note"})
    result.columns.emplace_back(column);
  for (std::vector<std::string>& cells : result.rows) {
    Row row;
    for (std::size_t i = 0; i < table.columns.size(); ++i) row[table.columns[i]] = cells[i];
    for (std::string& cell : predict(row, hardware)) cells.push_back(std::move(cell));
  }
  return result;
}

}  // namespace memo::estimate
