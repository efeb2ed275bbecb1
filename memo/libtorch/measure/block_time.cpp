// A layer's calls on operands that all blocks share, timed by the host around as many tokens of each size.
#include "memo/libtorch/measure/block_time.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <c10/core/Allocator.h>
#include <c10/util/Exception.h>

#include <chrono>
#include <map>
#include <optional>

#include "memo/base/median.h"
#include "memo/libtorch/model/decoder_segments.h"
#include "memo/libtorch/model/model_state.h"

namespace memo::libtorch {
namespace {

using model::SegmentIndex, model::Stage;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Small values without a pattern: a GPU's clock depends on how many bits change.
at::Tensor wave(at::IntArrayRef sizes, at::ScalarType dtype, at::Device place) {
  const std::int64_t count = c10::multiply_integers(sizes);
  return at::arange(count, at::dtype(at::kFloat).device(place)).mul_(0.7).sin_().mul_(0.02).to(dtype).view(sizes);
}

// The model, with a vocabulary that takes no memory, on the heap.
class LayerAlone {
 public:
  LayerAlone(const model::Shape& shape, job::DType dtype, int groups, std::byte* memory, const WholeState& whole,
             at::Device place)
      : shape_(shape),
        dtype_(scalar_type(dtype)),
        groups_(groups),
        place_(place),
        state_(
            shape, dtype, [&](const StateGroup& group) { return whole.regions(memory, group); }, nullptr, place),
        decoder_(shape, groups, state_.parameters()) {
    for (const Parameter& parameter : state_.parameters())
      parameter.value.copy_(wave(parameter.value.sizes(), parameter.value.scalar_type(), place));
  }

  // All calls of one block.
  void run(Tokens block) {
    const int element = static_cast<int>(c10::elementSize(dtype_));
    const model::Dataflow flow = model::decoder_dataflow(shape_, element, groups_, block, block);
    DecoderSegments segments(flow, decoder_, nullptr, place_);
    const Where where{.layer = model::LayerIndex(0),
                      .block = model::BlockIndex(0),
                      .tokens = {},
                      .targets = {},
                      .positions = at::arange(block.value(), at::dtype(at::kLong).device(place_))};
    for (const SegmentIndex s : flow.segments.indices()) {
      const model::Segment& segment = flow.segments[s];
      if (segment.stage != Stage::before && segment.stage != Stage::after) continue;
      Graph graph;
      segments.forward(s, where, operands(flow, segment.forward.reads), &graph);
      segments.backward(s, where, operands(flow, segment.backward.reads), graph);
    }
  }

 private:
  std::vector<at::Tensor> operands(const model::Dataflow& flow, const std::vector<model::Use>& uses) {
    std::vector<at::Tensor> result;
    for (const model::Use& use : uses) {
      const model::TensorClass& cls = flow.classes[use.cls];
      if (cls.persistent()) continue;  // the decoder holds it
      const std::int64_t columns = cls.row.value() / static_cast<std::int64_t>(c10::elementSize(dtype_));
      at::Tensor& rows = operands_[columns];
      if (!rows.defined() || rows.size(0) < flow.block.value())
        rows = wave({flow.block.value(), columns}, dtype_, place_);
      const int groups = use.every_group && cls.grouped ? flow.groups : 1;
      for (int g = 0; g < groups; ++g) result.push_back(rows.narrow(0, 0, flow.block.value()));
    }
    return result;
  }

  const model::Shape& shape_;
  at::ScalarType dtype_;
  int groups_;
  at::Device place_;
  ModelState state_;
  Decoder decoder_;
  std::map<std::int64_t, at::Tensor> operands_;  // by columns, of the largest block so far; calls only read them
};

}  // namespace

model::DeviceSizes sizes_of(const Device& device) {
  return {.gpu = !device.of_tensors().is_cpu(), .threads = at::get_num_threads()};
}

Result<std::vector<model::BlockTime>> time_blocks(const model::Shape& shape, job::DType dtype, int groups,
                                                  const std::vector<Tokens>& blocks, Device& device) {
  constexpr double warm = 0.25, most = 1;  // seconds
  constexpr int rounds = 5;
  model::Shape alone = shape;
  alone.vocab = 64;
  const WholeState whole(alone, dtype);
  MEMO_TRY(const Arena memory, device.map(whole.bytes()));
  std::optional<LayerAlone> layer;
  // Seconds of so many tokens in blocks of one size.
  const auto timed = [&](Tokens tokens, Tokens block) {
    const double start = seconds_now();
    device.run([&] {
      for (Tokens done; done < tokens; done += block) layer->run(block);
    });
    device.finish();
    return seconds_now() - start;
  };
  device.run([&] { layer.emplace(alone, dtype, groups, memory.data(), whole, device.of_tensors()); });
  std::map<Tokens, std::vector<double>> seconds;
  for (const Tokens block : blocks) {
    try {
      timed(block, block);
      seconds[block];
    } catch (const c10::OutOfMemoryError&) {
    }
  }
  const Tokens largest = seconds.empty() ? Tokens(0) : seconds.rbegin()->first, tokens = largest * 2;
  const double begin = seconds_now();
  while (!seconds.empty() && seconds_now() - begin < warm) timed(tokens, largest);
  for (int round = 0; round < rounds && (round == 0 || seconds_now() - begin < warm + most); ++round)
    for (auto& [block, times] : seconds) times.push_back(timed(tokens, block));
  device.run([&] { layer.reset(); });
  std::vector<model::BlockTime> result;
  for (const auto& [block, times] : seconds)
    result.push_back({block, Seconds(median(times) / static_cast<double>(tokens.value()))});
  return result;
}

}  // namespace memo::libtorch
