// What the recorder writes down of calls whose allocations are known: which there are, of what size, born and freed
// when, what they hold, and what autograd saves beyond the operands.
#include "memo/libtorch/measure/recorder.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "tests/libtorch/tiny_job.h"

namespace memo::libtorch {
namespace {

using model::ClassIndex;
using model::SegmentIndex;
using model::SegmentRole;
using model::Stage;
using model::TensorRole;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t columns = 16, row = columns * 4;

// x -> y = p exp(p) with p = x w: autograd saves both factors for the product, exp(p) for the exponential, and x only
// where w has a gradient. Before it, transients of sizes that nothing else has.
constexpr ClassIndex x(0), y(1), dy(2), dx(3), saved0(4), saved1(5), none = ClassIndex::none();
constexpr SegmentIndex input(0), middle(1), update(2);

model::Dataflow small_flow(std::int64_t context, std::int64_t block) {
  model::Dataflow flow;
  flow.classes = {{"x", TensorRole::other, Bytes(row)},
                  {"y", TensorRole::other, Bytes(row)},
                  {"dy", TensorRole::other, Bytes(row)},
                  {"dx", TensorRole::other, Bytes(row)}};
  flow.segments = {{"input", SegmentRole::other, Stage::embedding, {{}, {{x}}}, {}},
                   {"middle", SegmentRole::other, Stage::before, {{{x}}, {{y}}}, {{{dy}}, {{dx}}}},
                   {"update", SegmentRole::other, Stage::optimizer, {}, {}}};
  flow.layers = 1;
  flow.context = Tokens(context);
  flow.block = Tokens(block);
  return flow;
}

class SmallCalls final : public Segments {
 public:
  std::vector<at::Tensor> forward(SegmentIndex segment, const Where& where, const std::vector<at::Tensor>& reads,
                                  Graph* graph) override {
    if (segment == update) {
      (void)at::empty({777}, at::kByte);
      return {};
    }
    if (segment == input) return {at::zeros({where.tokens.size(0), columns})};
    const at::AutoGradMode grad(true);
    Graph scratch;
    Graph& kept = graph ? *graph : scratch;
    at::Tensor before = at::empty({1111}, at::kByte);  // alive until the end of the call
    (void)at::empty({222}, at::kByte);                 // and at once gone
    if (leaks) leaked_ = at::empty({333}, at::kByte);
    const at::Tensor p = at::matmul(leaf(reads[0], kept), weight);
    std::vector<at::Tensor> out{p * at::exp(p)};
    if (foreign_output) out = {outside_};
    keep_roots(out, kept);
    return detached(out);
  }
  std::vector<at::Tensor> backward(SegmentIndex, const Where&, const std::vector<at::Tensor>& reads,
                                   Graph& graph) override {
    return {gradients(graph, {reads[0]})[0]};
  }
  at::Tensor weight;  // a parameter
  bool leaks = false, foreign_output = false;

 private:
  at::Tensor leaked_, outside_ = at::zeros({8, columns}).set_requires_grad(true);
};

class RecorderTest : public testing::Test {
 protected:
  RecorderTest() {
    install_allocator();
    install_saved_tensor_hooks();
    calls.weight = tensor_at(memory.data(), {columns, columns}, at::kFloat, at::kCPU);
    calls.weight.normal_();
  }
  auto recorded() { return record(flow, calls, at::kFloat, {memory.data(), columns * row}, at::kCPU); }
  const plan::Trace& trace(SegmentIndex segment, bool backward, std::int64_t tokens) const {
    const auto found = std::ranges::find_if(traces, [&](const plan::Trace& t) {
      return t.segment == segment && t.backward == backward && t.tokens == Tokens(tokens);
    });
    EXPECT_NE(found, traces.end());
    return *found;
  }
  void expect_recorded() {
    auto made = recorded();
    ASSERT_TRUE(made) << made.error().message;
    traces = *std::move(made);
  }

  const OneThread one_thread;
  Arena memory = *Arena::map(Bytes(columns * row));
  SmallCalls calls;
  model::Dataflow flow = small_flow(20, 8);  // blocks of 8, 8 and 4 tokens
  IndexedVector<plan::TraceIndex, plan::Trace> traces;
};

std::vector<std::int64_t> sizes(const plan::Trace& trace) {
  std::vector<std::int64_t> result;
  for (const plan::Request& request : trace.requests) result.push_back(request.bytes.value());
  return result;
}

TEST_F(RecorderTest, EachCallIsRecordedOnceForEachBlockSize) {
  expect_recorded();
  std::vector<std::tuple<SegmentIndex, bool, std::int64_t>> got;
  for (const plan::Trace& trace : traces) {
    got.emplace_back(trace.segment, trace.backward, trace.tokens.value());
    EXPECT_EQ(trace.seconds, Seconds(0)) << "times are measured by others";
  }
  EXPECT_THAT(got, ElementsAre(std::tuple(input, false, 8), std::tuple(input, false, 4), std::tuple(middle, false, 8),
                               std::tuple(middle, true, 8), std::tuple(middle, false, 4), std::tuple(middle, true, 4),
                               std::tuple(update, false, 20)));
}

TEST_F(RecorderTest, AllocationsHaveTheirSizesBirthsAndDeathsInTheOrderOfTheCall) {
  expect_recorded();
  for (const std::int64_t tokens : {8, 4}) {
    const std::vector<plan::Request>& requests = trace(middle, false, tokens).requests;
    // before, gone, x w, exp, y: events 0 1 (2 frees) 3 4 5, then `before` is freed.
    ASSERT_THAT(sizes(trace(middle, false, tokens)), ElementsAre(1111, 222, tokens * row, tokens * row, tokens * row));
    EXPECT_EQ(requests[0].born, 0);
    EXPECT_EQ(requests[1].born, 1);
    EXPECT_EQ(requests[1].dies, 2);
    EXPECT_EQ(requests[2].born, 3);
    EXPECT_EQ(requests[3].born, 4);
    EXPECT_EQ(requests[4].born, 5);
    EXPECT_EQ(requests[0].dies, 6);
  }
  const std::vector<plan::Request>& requests = trace(update, false, 20).requests;
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].bytes, Bytes(777));
  EXPECT_EQ(requests[0].born, 0);
  EXPECT_EQ(requests[0].dies, 1);
}

TEST_F(RecorderTest, ResultsAndSavedTensorsAreNamedByTheirClassOthersAreTransients) {
  expect_recorded();
  ASSERT_EQ(flow.classes.size(), 6U);
  EXPECT_EQ(flow.classes[saved0].name, "middle.saved0");
  EXPECT_EQ(flow.classes[saved1].name, "middle.saved1");
  for (const ClassIndex saved : {saved0, saved1}) {
    EXPECT_EQ(flow.classes[saved].role, TensorRole::saved);
    EXPECT_EQ(flow.classes[saved].row, Bytes(row));
  }
  for (const std::int64_t tokens : {8, 4}) {
    std::vector<ClassIndex> classes;
    for (const plan::Request& request : trace(middle, false, tokens).requests) classes.push_back(request.cls);
    EXPECT_THAT(classes,
                testing::AnyOf(ElementsAre(none, none, saved0, saved1, y), ElementsAre(none, none, saved1, saved0, y)));
    const plan::Trace& backward = trace(middle, true, tokens);
    EXPECT_EQ(std::ranges::count(backward.requests, dx, &plan::Request::cls), 1);
    for (const plan::Request& request : backward.requests) {
      if (!request.cls.exists()) {
        EXPECT_GT(request.dies, request.born) << "a transient ends in its call";
      } else {
        EXPECT_EQ(request.bytes, Bytes(tokens * row));
      }
    }
  }
  EXPECT_EQ(trace(input, false, 8).requests.at(0).cls, x);
}

TEST_F(RecorderTest, TheTableSaysWhatForwardWritesAndBackwardReadsBesides) {
  expect_recorded();
  const model::Segment& segment = flow.segments[middle];
  std::vector<ClassIndex> writes, reads;
  for (const model::Use& use : segment.forward.writes) writes.push_back(use.cls);
  for (const model::Use& use : segment.backward.reads) reads.push_back(use.cls);
  EXPECT_THAT(writes, ElementsAre(y, saved0, saved1));
  EXPECT_THAT(reads, testing::UnorderedElementsAre(dy, saved0, saved1));
  EXPECT_TRUE(flow.segments[input].backward.reads.empty());
}

TEST_F(RecorderTest, ParametersAreNobodysTensorsAndWhatIsReadBackIsNotSavedTwice) {
  calls.weight.set_requires_grad(true);  // now x is saved for the gradient of w, and w for that of x
  expect_recorded();
  EXPECT_EQ(flow.classes.size(), 6U);
  std::vector<ClassIndex> reads;
  for (const model::Use& use : flow.segments[middle].backward.reads) reads.push_back(use.cls);
  EXPECT_THAT(reads, testing::UnorderedElementsAre(dy, x, saved0, saved1));
}

TEST_F(RecorderTest, MemoryThatACallKeepsWithoutANameIsRefused) {
  calls.leaks = true;
  const auto made = recorded();
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().message, "profile: segment middle keeps 333 bytes that it does not name");
}

TEST_F(RecorderTest, AResultThatTheCallDidNotAllocateIsRefused) {
  calls.foreign_output = true;
  const auto made = recorded();
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().message, "profile: segment middle returns memory that it did not allocate");
}

TEST_F(RecorderTest, ADecodersTracesAreTheSameEachTimeAndHoldEveryClassThatTheTableWrites) {
  const job::Job job = tiny_job();
  const plan::Profile a = tiny_profile(job), b = tiny_profile(job);
  ASSERT_EQ(a.traces.size(), b.traces.size());
  for (const plan::TraceIndex t : a.traces.indices()) {
    const plan::Trace &one = a.traces[t], &other = b.traces[t];
    ASSERT_EQ(one.requests.size(), other.requests.size()) << t.value();
    for (std::size_t r = 0; r < one.requests.size(); ++r) {
      const plan::Request &p = one.requests[r], &q = other.requests[r];
      EXPECT_EQ(std::tuple(p.bytes, p.born, p.dies, p.cls, p.group),
                std::tuple(q.bytes, q.born, q.dies, q.cls, q.group));
    }
    const model::Segment& segment = a.flow.segments[one.segment];
    std::multiset<std::pair<ClassIndex, std::int64_t>> wanted, got;  // class and bytes
    for (const model::Use& use : (one.backward ? segment.backward : segment.forward).writes) {
      const model::TensorClass& cls = a.flow.classes[use.cls];
      if (cls.persistent()) continue;
      for (int g = 0; g < (use.every_group && cls.grouped ? a.flow.groups : 1); ++g)
        wanted.emplace(use.cls, cls.row.value() * one.tokens.value());
    }
    for (const plan::Request& request : one.requests)
      if (request.cls.exists()) got.emplace(request.cls, request.bytes.value());
    EXPECT_EQ(got, wanted) << segment.name << (one.backward ? " backward, " : ", ") << one.tokens.value();
  }
}

}  // namespace
}  // namespace memo::libtorch
