// Runs the calls, reads their allocation events, and turns these into traces and classes of saved tensors.
#include "memo/libtorch/measure/recorder.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <set>

#include "memo/base/check.h"
#include "memo/base/index.h"
#include "memo/libtorch/kernels/attention_mask.h"
#include "memo/libtorch/measure/requests.h"
#include "memo/libtorch/memory/allocator.h"
#include "memo/libtorch/memory/witness.h"

namespace memo::libtorch {
namespace {

using model::BlockIndex, model::ClassIndex, model::LayerIndex, model::SegmentIndex, model::Stage;

struct OperandTensor {
  model::Use use;
  int group = 0;
  at::Tensor tensor;
};

using Traces = IndexedVector<plan::TraceIndex, plan::Trace>;

class Recorder {
 public:
  Recorder(model::Dataflow& flow, Segments& segments, ComputeDtype dtype, std::span<const std::byte> parameters,
           at::Device device, bool documents)
      : flow_(flow),
        segments_(segments),
        dtype_(dtype),
        parameters_(parameters),
        device_(device),
        documents_(documents) {}

  Result<Traces> run() {
    std::vector<Tokens> sizes{flow_.block_tokens(BlockIndex(0))};
    if (flow_.block_tokens(flow_.last_block()) != sizes[0]) sizes.push_back(flow_.block_tokens(flow_.last_block()));
    for (const SegmentIndex s : flow_.segments.indices()) {
      const Stage stage = flow_.segments[s].stage;
      if (stage == Stage::wait) {
        traces_.push_back({s, false, flow_.context, Seconds(0), {}});
      } else if (model::changes_parameters(stage)) {
        const RecordingScope recording(device_.type(), segments_.least_planned());
        segments_.forward(s, {}, {}, nullptr);
        MEMO_CHECKED(add_trace(s, false, flow_.context, recording.events(), {}, {}, {}));
      } else if (stage == Stage::core) {
        MEMO_CHECKED(record_core(s));
      } else {
        for (const Tokens tokens : sizes) MEMO_CHECKED(record_block(s, tokens));
      }
    }
    return std::move(traces_);
  }

 private:
  at::Tensor operand(const model::Use& use, Tokens tokens) const {
    const model::TensorClass& cls = flow_.classes[use.cls];
    const auto written = written_.find({use.cls, tokens.value()});
    if (written != written_.end()) return written->second;
    const at::ScalarType dtype = dtype_.of(cls);
    const auto columns = cls.row.value() / static_cast<std::int64_t>(c10::elementSize(dtype));
    return at::full({tokens.value(), columns}, 0.01, at::dtype(dtype).device(device_));
  }
  std::vector<OperandTensor> operands(const std::vector<model::Use>& uses, Tokens tokens) const {
    std::vector<OperandTensor> result;
    for (const model::Use& use : uses) {
      if (flow_.classes[use.cls].persistent()) continue;  // the segments hold it
      const int groups = use.every_group && flow_.classes[use.cls].grouped ? flow_.groups : 1;
      for (int g = 0; g < groups; ++g) result.push_back({use, g, operand(use, tokens)});
    }
    return result;
  }
  static std::vector<at::Tensor> tensors(const std::vector<OperandTensor>& operands) {
    std::vector<at::Tensor> result;
    for (const OperandTensor& operand : operands) result.push_back(operand.tensor);
    return result;
  }
  Where block_of(Tokens tokens, const model::Segment& segment) const {
    const at::Tensor ids = at::zeros({tokens.value()}, at::dtype(at::kLong).device(device_));
    // The first layer of the kind.
    const auto first = std::ranges::find(flow_.kinds, segment.kind) - flow_.kinds.begin();  // layer of the kind
    return {.layer = LayerIndex(segment.kind < 0 ? 0 : static_cast<int>(first)),
            .block = BlockIndex(0),
            .tokens = ids,
            .targets = ids,
            .positions = ids};
  }

  Status record_block(SegmentIndex s, Tokens tokens) {
    model::Segment& segment = flow_.segments[s];
    const bool first_size = tokens == flow_.block_tokens(BlockIndex(0));
    const std::vector<OperandTensor> reads = operands(table_reads(s, false), tokens);
    const Where where = block_of(tokens, segment);
    Witness& witness = *witnesses_.emplace_back(std::make_unique<Witness>(parameters_));
    Graph graph;
    {
      const SavedTensorScope saving(witness);
      std::vector<at::Tensor> outputs;
      RecordingScope recording(device_.type(), segments_.least_planned());
      outputs = segments_.forward(s, where, tensors(reads), &graph);
      if (first_size) MEMO_CHECKED(add_saved(s, tokens, reads, outputs, witness.storages(), recording.events()));
      MEMO_CHECKED(
          add_trace(s, false, tokens, recording.events(), outputs, segment.forward.writes, witness.storages()));
      // The allocations of external code may depend on values, so backward gets the real ones.
      if (segments_.external() && segment.forward.reads.empty() && !outputs.empty())
        written_[{segment.forward.writes.front().cls, tokens.value()}] = outputs.front();
    }
    if (!segment.has_backward()) return {};
    const std::vector<OperandTensor> gradients = operands(table_reads(s, true), tokens);
    std::vector<at::Tensor> results;
    RecordingScope recording(device_.type(), segments_.least_planned());
    results = segments_.backward(s, where, tensors(gradients), graph);
    witness.over = true;
    return add_trace(s, true, tokens, recording.events(), results, segment.backward.writes, {});
  }

  // The reads of the original table, without those that were added for saved tensors.
  std::vector<model::Use> table_reads(SegmentIndex s, bool backward) const {
    const model::Segment& segment = flow_.segments[s];
    const std::vector<model::Use>& uses = backward ? segment.backward.reads : segment.forward.reads;
    const auto saved = saved_uses_.find(s);
    const std::size_t added = backward && saved != saved_uses_.end() ? saved->second : 0;
    return {uses.begin(), uses.end() - static_cast<std::ptrdiff_t>(added)};
  }

  // Finds the tensors that a segment's graph keeps. Operands become reads of backward; others become new classes of the
  // table.
  Status add_saved(SegmentIndex s, Tokens tokens, const std::vector<OperandTensor>& reads,
                   const std::vector<at::Tensor>& outputs, const std::vector<const void*>& storages,
                   const std::vector<AllocationEvent>& events) {
    model::Segment& segment = flow_.segments[s];
    std::size_t& added = saved_uses_[s];
    std::set<const void*> seen;
    const auto read_back = [&](const model::Use& use) {
      auto& list = segment.backward.reads;
      const auto same = [&](const model::Use& u) { return u.cls == use.cls && u.layer_shift == use.layer_shift; };
      if (std::ranges::any_of(list, same)) return;
      list.push_back(use);
      ++added;
    };
    const std::size_t table_writes = segment.forward.writes.size();
    for (const void* storage : storages) {
      if (!seen.insert(storage).second) continue;
      const auto read =
          std::ranges::find_if(reads, [&](const auto& r) { return r.tensor.storage().data() == storage; });
      if (read != reads.end()) {
        read_back(read->use);
        continue;
      }
      std::size_t i = 0;
      while (i < outputs.size() && outputs[i].storage().data() != storage) ++i;
      if (i < outputs.size()) {
        read_back(segment.forward.writes[std::min(i, table_writes - 1)]);
        continue;
      }
      const auto made = std::find_if(events.rbegin(), events.rend(),
                                     [&](const AllocationEvent& e) { return e.is_malloc && e.address == storage; });
      if (made == events.rend() && suspended_[segment.kind].contains(storage))
        return bad_input(
            fmt::format("{}: backward needs a tensor there that was computed before attention", segment.name));
      if (made == events.rend() && segments_.external()) continue;
      MEMO_CHECK(made != events.rend(), "what a segment saves is an operand, a parameter or its own");
      const ClassIndex cls = flow_.classes.end_index();
      flow_.classes.push_back({fmt::format("{}.saved{}", segment.name, segment.forward.writes.size() - table_writes),
                               model::TensorRole::saved,
                               Bytes((made->bytes.value() + tokens.value() - 1) / tokens.value())});
      segment.forward.writes.push_back({cls});
      read_back({cls});
    }
    return {};
  }

  // Turns events into requests; requests that hold an output or a saved tensor get its class.
  Status add_trace(SegmentIndex s, bool backward, Tokens tokens, const std::vector<AllocationEvent>& events,
                   const std::vector<at::Tensor>& outputs, const std::vector<model::Use>& writes,
                   const std::vector<const void*>& saved) {
    plan::Trace trace{s, backward, tokens, Seconds(0), requests_of(events)};
    std::map<const void*, std::size_t> last;  // the last request at each address
    std::size_t request = 0;
    for (const AllocationEvent& event : events)
      if (event.is_malloc) last[event.address] = request++;
    const auto name_request = [&](const void* storage, ClassIndex cls, int group) {
      const auto found = last.find(storage);
      if (found == last.end()) return false;
      trace.requests[found->second].cls = cls;
      trace.requests[found->second].group = group;
      return true;
    };
    const std::string where = flow_.segments[s].name;
    std::size_t i = 0;
    for (const model::Use& use : writes) {
      if (i >= outputs.size()) break;
      const int groups = use.every_group && flow_.classes[use.cls].grouped ? flow_.groups : 1;
      for (int g = 0; g < groups; ++g, ++i)
        if (!name_request(outputs[i].storage().data(), use.cls, g))
          return run_time_error(fmt::format("profile: segment {} returns memory that it did not allocate", where));
    }
    // Classes of saved tensors follow the table's writes, in the order in which autograd saved the tensors.
    std::set<const void*> named;
    for (const at::Tensor& output : outputs) named.insert(output.storage().data());
    std::size_t next = 0;
    for (const model::Use& use : writes) {
      if (flow_.classes[use.cls].role != model::TensorRole::saved) continue;
      while (next < saved.size() && (last.count(saved[next]) == 0 || !named.insert(saved[next]).second)) ++next;
      if (next == saved.size() || !name_request(saved[next], use.cls, 0))
        return run_time_error(fmt::format("profile: segment {} does not save the same at every block size", where));
    }
    if (segments_.external() && !backward && flow_.segments[s].stage == Stage::before)
      for (const auto& [address, number] : last) {
        plan::Request& alive = trace.requests[number];
        if (alive.cls.exists() || alive.dies > 0) continue;
        alive.dies = static_cast<int>(events.size());
        suspended_[flow_.segments[s].kind].insert(address);
      }
    for (const plan::Request& r : trace.requests)
      if (!r.cls.exists() && r.dies == 0)
        return run_time_error(
            fmt::format("profile: segment {} keeps {} bytes that it does not name", where, r.bytes.value()));
    traces_.push_back(std::move(trace));
    return {};
  }

  // On a GPU the memory of core attention depends on the number of documents: a plan has the most of one and many.
  Status record_core(SegmentIndex s) {
    MEMO_TRY(std::vector<plan::Trace> most, core_traces(s, false));
    if (!device_.is_cpu() && documents_) {
      MEMO_TRY(const std::vector<plan::Trace> many, core_traces(s, true));
      for (std::size_t t = 0; t < most.size(); ++t) MEMO_CHECKED(take_most(most[t], many[t]));
    }
    for (plan::Trace& trace : most) traces_.push_back(std::move(trace));
    return {};
  }

  // Records core attention at two lengths, and extrapolates its requests to the context.
  Result<std::vector<plan::Trace>> core_traces(SegmentIndex s, bool documents) {
    const Tokens block = flow_.block_tokens(BlockIndex(0));
    const std::int64_t unit = std::max<std::int64_t>(block.value(), 1024);
    const Tokens small(std::min(unit, flow_.context.value())), large(std::min(2 * unit, flow_.context.value()));
    const std::size_t before = traces_.size();
    for (const Tokens tokens : {small, large}) {
      std::vector<std::int64_t> starts(at(documents ? most_documents(tokens.value()) : 0));
      std::iota(starts.begin(), starts.end(), 0);
      Where where;
      where.document_starts = starts;
      for (const bool backward : {false, true}) {
        const model::Side& side = backward ? flow_.segments[s].backward : flow_.segments[s].forward;
        const std::vector<OperandTensor> reads = operands(side.reads, tokens);
        std::vector<at::Tensor> results;
        Graph none;
        RecordingScope recording(device_.type(), segments_.least_planned());
        results = backward ? segments_.backward(s, where, tensors(reads), none)
                           : segments_.forward(s, where, tensors(reads), nullptr);
        MEMO_CHECKED(add_trace(s, backward, tokens, recording.events(), results, side.writes, {}));
      }
    }
    const std::vector<plan::Trace> recorded(traces_.begin() + static_cast<std::ptrdiff_t>(before), traces_.end());
    traces_.resize(before);
    std::vector<plan::Trace> result;
    for (std::size_t side = 0; side < 2; ++side) {
      const plan::Trace &a = recorded[side], &b = recorded[side + 2];
      std::vector<Tokens> lengths{flow_.context};
      for (const int blocks : flow_.prefixes())
        if (!b.backward && flow_.block * blocks >= small) lengths.push_back(flow_.block * blocks);
      for (const Tokens tokens : lengths) {
        MEMO_TRY(result.emplace_back(), at_length(tokens, a, b));
      }
    }
    return result;
  }

  model::Dataflow& flow_;
  Segments& segments_;
  ComputeDtype dtype_;
  std::span<const std::byte> parameters_;
  at::Device device_;
  bool documents_;
  Traces traces_;
  std::map<std::pair<ClassIndex, std::int64_t>, at::Tensor>
      written_;  // operands by class and tokens; operands that are missing are constants
  std::vector<std::unique_ptr<Witness>> witnesses_;  // each outlives its graph
  // By kind of layers: addresses of transients that external calls before attention left alive.
  std::map<int, std::set<const void*>> suspended_;
  std::map<SegmentIndex, std::size_t> saved_uses_;  // by segment: the number of reads added to its backward side
};

}  // namespace

Result<Traces> record(model::Dataflow& flow, Segments& segments, ComputeDtype dtype,
                      std::span<const std::byte> parameters, at::Device device, bool documents) {
  return Recorder(flow, segments, dtype, parameters, device, documents).run();
}

}  // namespace memo::libtorch
