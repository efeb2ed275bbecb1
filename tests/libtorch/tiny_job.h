// A job so small that a step takes milliseconds, with all that a plan can make of it: what tests of steps run.
#pragma once

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "memo/check/validate.h"
#include "memo/exec/tier.h"
#include "memo/job/job.h"
#include "memo/libtorch/measure/recorder.h"
#include "memo/libtorch/memory/device.h"
#include "memo/libtorch/memory/saved_tensors.h"
#include "memo/libtorch/model/decoder_segments.h"
#include "memo/libtorch/model/sample.h"
#include "memo/model/shape.h"
#include "memo/plan/for_job.h"
#include "memo/planner/build.h"
#include "memo/planner/streaming.h"

namespace memo::libtorch {

// Three blocks, the last one shorter, of a size that tiers take.
inline job::Job tiny_job() {
  job::Job job;
  job.model.family = "llama";
  job.model.hidden = 32;
  job.model.layers = 3;
  job.model.heads = 4;
  job.model.kv_heads = 2;
  job.model.head_dim = 8;
  job.model.ffn = 48;
  job.model.vocab = 61;
  job.train.context = Tokens(320);
  job.train.block = Tokens(128);
  job.train.head_groups = 2;
  job.train.clip = 0;
  job.memory.device = "cpu";
  job.memory.host_limit = Bytes(1 << 30);
  return job;
}

inline model::Shape shape_of(const job::Job& job) {
  const auto shape = model::job_shape(job);
  EXPECT_TRUE(shape) << (shape ? "" : shape.error().message);
  return *shape;
}

// Work so small is slower by several threads, which wait for each other.
class OneThread {
 public:
  OneThread() { at::set_num_threads(1); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { at::set_num_threads(before_); }

 private:
  const int before_ = at::get_num_threads();
};

// The CPU, with a tier in memory, which the real one refuses since it saves nothing.
class MemoryDevice final : public Device {
 public:
  [[nodiscard]] std::string name() const override { return cpu_->name(); }
  [[nodiscard]] at::Device of_tensors() const override { return cpu_->of_tensors(); }
  Result<Arena> map(Bytes bytes) override {
    mapped = bytes;
    return cpu_->map(bytes);
  }
  Result<std::unique_ptr<exec::TierStore>> host_tier(Bytes bytes) override {
    MEMO_TRY(auto store, exec::host_tier(bytes));
    ++tiers_opened;
    return std::make_unique<Counted>(std::move(store), open_tiers);
  }
  Result<std::unique_ptr<exec::CopyEngine>> copy_engine(std::vector<exec::TierStore*> tiers) override {
    return cpu_->copy_engine(std::move(tiers));
  }
  exec::ArenaBytes& bytes() override { return cpu_->bytes(); }
  void run(const std::function<void()>& work) override { cpu_->run(work); }
  void finish() override { cpu_->finish(); }
  [[nodiscard]] HeapUse unplanned() const override { return cpu_->unplanned(); }
  void reset_unplanned_peak() override { cpu_->reset_unplanned_peak(); }

  Bytes mapped;                          // of the arena that was mapped last
  int tiers_opened = 0, open_tiers = 0;  // so far; now

 private:
  class Counted final : public exec::TierStore {
   public:
    Counted(std::unique_ptr<exec::TierStore> store, int& open) : store_(std::move(store)), open_(open) { ++open_; }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() override { --open_; }
    Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
      return store_->write(offset, from, bytes);
    }
    Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
      return store_->read(offset, to, bytes);
    }

   private:
    std::unique_ptr<exec::TierStore> store_;
    int& open_;
  };
  std::unique_ptr<Device> cpu_ = cpu_device();
};

// A model's state in plain memory, all of it, and what computes with it.
struct WholeModel {
  WholeModel(const model::Shape& shape, job::DType dtype, int groups)
      : whole(shape, dtype),
        memory(*Arena::map(whole.bytes())),
        state(shape, dtype, [this](const StateGroup& group) { return whole.regions(memory.data(), group); }),
        decoder(shape, groups, state.parameters()) {}
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {memory.data(), static_cast<std::size_t>(whole.bytes().value())};
  }
  WholeState whole;
  Arena memory;
  ModelState state;
  Decoder decoder;
};

// What the calls of a model's dataflow allocate and save, with made-up times, and a tier.
inline plan::Profile recorded_profile(const job::Job& job, Segments& segments, model::Dataflow flow,
                                      const WholeModel& model) {
  install_allocator();
  install_saved_tensor_hooks();
  plan::Profile profile;
  profile.flow = std::move(flow);
  auto traces = record(profile.flow, segments, scalar_type(job.model.dtype), model.bytes(), at::kCPU);
  EXPECT_TRUE(traces) << (traces ? "" : traces.error().message);
  if (traces) profile.traces = *std::move(traces);
  profile.fixed = plan::fixed_memory(model.decoder.shape(), job.model.dtype);
  for (plan::Trace& trace : profile.traces) trace.seconds = Seconds(1e-3);
  const BytesPerSecond rate(1e9);
  profile.tiers = {{"host", Bytes(1 << 30), rate, rate, rate, rate, 1.02, plan::copy_alignment}};
  return profile;
}

inline model::Dataflow tiny_flow(const job::Job& job) {
  return model::decoder_dataflow(shape_of(job), job.model.dtype == job::DType::bfloat16 ? 2 : 4, job.train.head_groups,
                                 job.train.context, job.train.block);
}

inline plan::Profile tiny_profile(const job::Job& job) {
  WholeModel model(shape_of(job), job.model.dtype, job.train.head_groups);
  const model::Dataflow flow = tiny_flow(job);
  DecoderSegments segments(flow, model.decoder, [&](const StateGroup& group, bool) {
    (void)model.state.accepts(group, job.train, {});
    model.state.update(group, job.train, 1, 0.0);
  });
  return recorded_profile(job, segments, flow, model);
}

inline Sample tiny_sample(const job::Job& job, std::uint64_t seed) {
  at::manual_seed(seed);
  return make_sample(at::randint(job.model.vocab, {job.train.context.value() + 1}, at::kLong));
}

// Every way a tensor can travel: kept, computed again, swapped, streamed between passes, with parameters paged.
inline const std::vector<std::string> tiny_plan_names = {"resident", "recompute", "offload",
                                                         "swapped",  "streamed",  "paged"};

inline plan::Plan tiny_plan(const plan::Profile& profile, const std::string& name, int sequences = 1) {
  using namespace planner;
  const auto placement = [&]() -> Placement {
    if (name == "resident") return place_resident(profile);
    if (name == "recompute") return place_recompute(profile, -1);
    if (name == "offload") return place_recompute(profile, 0);
    const Placement swapped = place_swapped(profile, 0);
    if (name == "swapped") return swapped;
    if (name == "streamed") return streamed(swapped, profile, 0);
    return paged(streamed(swapped, profile, 0), profile, 0, Paged::weights, profile.flow.layers);
  };
  plan::Plan plan;
  plan.strategy = "memo";
  plan.sequences = sequences;
  plan.profile = profile;
  plan.placement = placement().classes;
  plan.program = build_program(profile, plan.placement, {}).program;
  plan.predicted.device_peak = plan.program.arena;
  const plan::CallIndex update = plan::update_begin(profile.flow, plan.program);  // what is behind it runs once a step
  for (const plan::Copy& copy : plan.program.copies) {
    const plan::TensorIndex tensor = plan.program.residencies[copy.residency].tensor;
    Bytes& moved = copy.direction == plan::Direction::out ? plan.predicted.bytes_out : plan.predicted.bytes_in;
    moved += round_up(plan.program.tensors[tensor].bytes, plan::copy_alignment) * (copy.at < update ? sequences : 1);
  }
  const auto failures = check::validate(plan);
  EXPECT_TRUE(failures.empty()) << name << ": " << failures.front();
  return plan;
}

// A folder of this test's own, which goes with it.
class TinyFolder {
 public:
  TinyFolder() : path_(std::filesystem::temp_directory_path() / ("memo-tiny-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  TinyFolder(const TinyFolder&) = delete;
  TinyFolder& operator=(const TinyFolder&) = delete;
  ~TinyFolder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const Path& path() const { return path_; }

 private:
  Path path_;
};

}  // namespace memo::libtorch
