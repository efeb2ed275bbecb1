// A good plan passes; each planted fault is found and named by the tensor or call that it is about.
#include "memo/check/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "../plan/naive_plan.h"
#include "../plan/tiny_plan.h"
#include "memo/plan/plan.h"

namespace memo::check {
namespace {

using namespace plan;  // what is checked

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Validate, AcceptsTheTinyPlan) { EXPECT_THAT(validate(tiny_plan()), IsEmpty()); }

struct Fault {
  const char* name;
  void (*plant)(Plan& plan);
  const char* found;  // part of one of the lines
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class PlantedFault : public ::testing::TestWithParam<Fault> {};

TEST_P(PlantedFault, IsNamed) {
  Plan plan = tiny_plan();
  GetParam().plant(plan);
  const std::vector<std::string> failures = validate(plan);
  EXPECT_THAT(failures, Contains(HasSubstr(GetParam().found)));
  for (const std::string& line : failures) EXPECT_EQ(line.find('\n'), std::string::npos) << line;
}

// Residencies, calls and copies are numbered in tiny_plan.h.
Residency& residency(Plan& plan, int i) { return plan.program.residencies[ResidencyIndex(i)]; }
Call& call(Plan& plan, int i) { return plan.program.calls[CallIndex(i)]; }
Copy& copy(Plan& plan, std::size_t i) { return plan.program.copies[i]; }

const Fault data_faults[] = {
    {"ReadBeforeWrite", [](Plan& p) { std::swap(call(p, 0), call(p, 1)); },
     "call 0 (before forward, layer 0, block 0) reads x of layer 0, block 0 before any call has written it"},
    {"ReadAfterResidency", [](Plan& p) { residency(p, 0).end = Boundary(6); },
     "call 6 (after forward, layer 0, block 0) reads x of layer 0, block 0 after its residency ended at boundary 6"},
    {"ReadOfWholeSequenceAfterResidency", [](Plan& p) { residency(p, 4).end = Boundary(4); },
     "call 4 (core forward, layer 0, group 0) reads q of layer 0, block 1, group 0 after its residency ended"},
    {"ReadBeforeFetchEnds", [](Plan& p) { copy(p, 1).before = Boundary(14); },
     "call 12 (before rerun, layer 0, block 0) reads x of layer 0, block 0, but its fetch need only end by boundary "
     "14"},
    {"ReadBetweenResidencies", [](Plan& p) { residency(p, 0).begin = Boundary(0), residency(p, 0).end = Boundary(5); },
     "reads x of layer 0, block 0 after its residency ended at boundary 5"},
    {"WriteWithoutResidency", [](Plan& p) { residency(p, 15).begin = Boundary(7); },
     "call 6 (after forward, layer 0, block 0) writes h of layer 0, block 0, but no residency of it begins at"},
    {"RerunOutputWithoutResidency", [](Plan& p) { p.program.residencies.erase(p.program.residencies.begin() + 14); },
     "call 13 (before rerun, layer 0, block 1) writes s of layer 0, block 1, but no residency of it begins at"},
    {"ResidencyThatNobodyWrites", [](Plan& p) { residency(p, 14).begin = Boundary(12); },
     "residency 14 of s of layer 0, block 1 is said to be produced by call 12 (before rerun, layer 0, block 0)"},
    {"TwoResidenciesForOneWrite",
     [](Plan& p) {
       Residency twin = residency(p, 15);
       twin.offset = Bytes(640);
       p.program.residencies.push_back(twin);
     },
     "writes h of layer 0, block 0 into 2 residencies at once"},
    {"WrittenTwice",
     [](Plan& p) {
       p.profile.flow.segments[tiny_loss].forward.writes.push_back({tiny_h, 0});
     },
     "call 7 (loss forward, layer 0, block 0) writes h of layer 0, block 0, which call 6 (after forward"},
    {"BlocksNotContiguous", [](Plan& p) { residency(p, 8).offset = Bytes(1216), residency(p, 11).end = Boundary(2); },
     "call 4 (core forward, layer 0, group 0) writes a whole sequence, but o of layer 0, block 1, group 0 lies at "
     "1216"},
    {"TensorNotInTheList",
     [](Plan& p) {
       p.profile.flow.segments[tiny_loss].forward.reads.push_back({tiny_s, 1});
     },
     "call 7 (loss forward, layer 0, block 0) reads s of layer 1, block 0, which is not in the list"},
    {"TensorTwiceInTheList", [](Plan& p) { p.program.tensors.push_back(p.program.tensors[TensorIndex(0)]); },
     "x of layer 0, block 0, is tensor 0 again"},
};

const Fault copy_faults[] = {
    {"CopyOutEndsAfterResidency", [](Plan& p) { copy(p, 0).before = Boundary(8); },
     "copy 0 (out of x of layer 0, block 0, tier host) need only end by boundary 8, its residency ends at 7"},
    {"CopyOutBeforeWrite", [](Plan& p) { copy(p, 0).at = Boundary(0); },
     "copy 0 (out of x of layer 0, block 0, tier host) starts at boundary 0, its content is there from boundary 1"},
    {"FetchOfWhatWasNeverWrittenOut",
     [](Plan& p) {
       p.program.copies.erase(p.program.copies.begin());
       p.placement[0] = {tiny_x, LayerIndex(0), 0, 0, 2, 0}, p.predicted.bytes_out = Bytes(0);
     },
     "copy 0 (in of x of layer 0, block 0, tier host): the tensor was never written out"},
    {"FetchFromElsewhere", [](Plan& p) { copy(p, 1).tier_offset = Bytes(64); },
     "copy 1 (in of x of layer 0, block 0, tier host) reads tier offset 64, the tensor was written to tier host at 0"},
    {"FetchBeforeCopyOutEnds", [](Plan& p) { copy(p, 0).before = Boundary(10), residency(p, 0).end = Boundary(10); },
     "copy 1 (in of x of layer 0, block 0, tier host) starts at boundary 9, the copy out need only end by 10"},
    {"FetchStartsBeforeItsResidency", [](Plan& p) { copy(p, 1).at = Boundary(8); },
     "starts at boundary 8, its residency begins at 9"},
    {"FetchOverwritesWhatACallWrites", [](Plan& p) { copy(p, 1).residency = ResidencyIndex(2); },
     "copy 1 (in of x of layer 0, block 1, tier host) overwrites residency 2, which call 2 (embedding forward"},
    {"FetchedWithoutACopy", [](Plan& p) { p.program.copies.pop_back(); },
     "residency 1 of x of layer 0, block 0 is said to be fetched, 0 copies fetch it"},
    {"FetchedTwice", [](Plan& p) { p.program.copies.push_back(copy(p, 1)); },
     "residency 1 of x of layer 0, block 0 is said to be fetched, 2 copies fetch it"},
    {"CopiesOutOfOrder",
     [](Plan& p) {
       p.program.copies.push_back({ResidencyIndex(2), Direction::out, 0, Bytes(128), Boundary(3), Boundary(7)}),
           copy(p, 0).at = Boundary(4);
     },
     "copy 2 (out of x of layer 0, block 1, tier host) starts at boundary 3, after one of its direction that starts at "
     "4"},
    {"MisalignedArenaOffset", [](Plan& p) { residency(p, 1).offset = Bytes(1864); },
     "its arena offset 1864 is not a multiple of 64"},
    {"MisalignedTierOffset", [](Plan& p) { copy(p, 0).tier_offset = copy(p, 1).tier_offset = Bytes(32); },
     "its tier offset 32 is not a multiple of 64"},
    {"TierExtentsOverlap",
     [](Plan& p) {
       p.placement[0] = {tiny_x, LayerIndex(0), 0, 2, 0, 0};
       p.program.copies.push_back({ResidencyIndex(2), Direction::out, 0, Bytes(64), Boundary(3), Boundary(7)});
     },
     "copy 0 (out of x of layer 0, block 0, tier host) and copy 2 (out of x of layer 0, block 1, tier host) overlap"},
    {"TierUsedBeyondItsBytes", [](Plan& p) { p.program.tier_bytes[0] = Bytes(96); },
     "ends at 4096 on the tier, of which the plan uses 96 bytes"},
    {"TierOverCapacity", [](Plan& p) { p.profile.tiers[0].capacity = Bytes(100); },
     "tier host is over capacity: 4096 of 100"},
};

const Fault space_faults[] = {
    {"ResidenciesOverlap", [](Plan& p) { residency(p, 15).offset = Bytes(1256); },
     "h of layer 0, block 0 (bytes 1256 to 1336, boundaries 6 to 9)"},
    {"OverlapByRoundingUp", [](Plan& p) { residency(p, 2).offset = Bytes(5000); },
     "x of layer 0, block 0 (bytes 1856 to 5952, boundaries 0 to 7) and x of layer 0, block 1 (bytes 5000"},
    {"OverlapOfEnclosedRectangle", [](Plan& p) { residency(p, 14).offset = Bytes(1248); },
     "s of layer 0, block 1 (bytes 1248 to 1264, boundaries 3 to 17) and s of layer 0, block 1 (bytes 1248"},
    {"WorkspaceOverlapsResidency", [](Plan& p) { call(p, 1).workspace = Bytes(704); },
     "the workspace of call 1 (before forward, layer 0, block 0) (bytes 704 to 896"},
    {"WorkspaceOverlapsFixed", [](Plan& p) { call(p, 1).workspace = Bytes(320); },
     "fixed memory optimizer (bytes 256 to 384, boundaries 0 to 21)"},
    {"WorkspaceMisaligned", [](Plan& p) { call(p, 1).workspace = Bytes(400); },
     "call 1 (before forward, layer 0, block 0): its workspace at 400 is not at a multiple of 64"},
    {"FixedOverlap", [](Plan& p) { p.program.fixed[1].offset = Bytes(192); },
     "fixed memory weights (bytes 0 to 256, boundaries 0 to 21) and fixed memory optimizer"},
    {"FixedTooSmall", [](Plan& p) { p.program.fixed[1].bytes = Bytes(64); },
     "fixed memory optimizer needs 120 bytes, its region has 64"},
    {"LeavesTheArena", [](Plan& p) { residency(p, 22).offset = Bytes(5936); },
     "d1 of layer 0, block 1 (bytes 5936 to 5984, boundaries 11 to 17) leaves the arena of 5952 bytes"},
    {"TransientsOverlap", [](Plan& p) { p.program.transients[TraceIndex(4)].offsets[1] = 64; },
     "transients of before forward at 2 tokens: requests 0 and 1 overlap"},
    {"TransientLeavesTheWorkspace", [](Plan& p) { p.program.transients[TraceIndex(4)].bytes = Bytes(128); },
     "transients of before forward at 2 tokens: request 1 of 60 bytes at 128 leaves the workspace of 128 bytes"},
    {"TransientMisaligned", [](Plan& p) { p.program.transients[TraceIndex(4)].offsets[3] = 32; },
     "transients of before forward at 2 tokens: request 3 has offset 32, not a multiple of 64"},
    {"TransientOffsetOfAPlannedTensor", [](Plan& p) { p.program.transients[TraceIndex(4)].offsets[2] = 0; },
     "request 2 holds s and has offset 0 instead of -1"},
    {"TransientWithoutOffset", [](Plan& p) { p.program.transients[TraceIndex(4)].offsets.pop_back(); },
     "3 offsets for 4 requests"},
};

const Fault call_faults[] = {
    {"CallMissing",
     [](Plan& p) { p.program.calls.erase(p.program.calls.begin() + 19), p.program.calls.push_back(call(p, 19)); },
     "no call runs embedding backward, layer 0, block 0"},
    {"CallTwice", [](Plan& p) { call(p, 17) = call(p, 16); },
     "call 17 (before backward, layer 0, block 1) was made already, as call 16"},
    {"NoOptimizer", [](Plan& p) { call(p, 20) = call(p, 19); }, "no call runs optimizer forward, layer 0, block 0"},
    {"OptimizerBeforeGradients", [](Plan& p) { std::swap(call(p, 20), call(p, 19)); },
     "call 20 (embedding backward, layer 0, block 0) comes after the optimizer, call 19"},
    {"RerunBeforeForward", [](Plan& p) { call(p, 1).phase = Phase::rerun; },
     "call 1 (before rerun, layer 0, block 0) runs again before its forward call"},
    {"RerunOfTheLoss",
     [](Plan& p) {
       p.program.calls.insert(p.program.calls.begin() + 11, call(p, 10)), call(p, 11).phase = Phase::rerun;
     },
     "call 11 (loss rerun, layer 0, block 1) cannot be run again"},
    {"BackwardOfTheLoss", [](Plan& p) { call(p, 10).phase = Phase::backward; },
     "call 10 (loss backward, layer 0, block 1): the segment has no backward side"},
    {"TraceOfAnotherSize", [](Plan& p) { call(p, 0).trace = TraceIndex(1); },
     "call 0 (embedding forward, layer 0, block 0) of 2 tokens has trace 1, which is of embedding forward at 1 tokens"},
    {"TraceOfTheOtherSide", [](Plan& p) { call(p, 0).trace = TraceIndex(2); },
     "has trace 2, which is of embedding backward at 2 tokens"},
    {"LossOfTwoLayers", [](Plan& p) { call(p, 10).layer = LayerIndex(1); },
     "call 10 (loss forward, layer 1, block 1): earlier calls of this segment are of layer 0"},
};

const Fault sum_faults[] = {
    {"OverTheLimit", [](Plan& p) { p.device_limit = Bytes(1024); },
     "the arena of 5952 bytes (5.81 KiB) is over the device limit"},
    {"WrongPeak", [](Plan& p) { p.predicted.device_peak = Bytes(1800); },
     "device peak of 1800 bytes, the arena has 5952"},
    {"BoundOverPeak", [](Plan& p) { p.predicted.device_lower_bound = Bytes(5953); },
     "lower bound of the device peak, 5953 bytes"},
    {"StepUnderItsBound", [](Plan& p) { p.predicted.step = Seconds(2); },
     "predicted step of 2 s is under its own lower bound"},
    {"WrongBytesOut", [](Plan& p) { p.predicted.bytes_out = Bytes(95); },
     "95 bytes go out, the copies move 96 of tensors, 4096 in all"},
    {"WrongBytesIn", [](Plan& p) { p.predicted.bytes_in = Bytes(192); },
     "192 bytes go in, the copies move 96 of tensors, 4096 in all"},
    {"SwappedWithoutACopy", [](Plan& p) { p.placement[1] = {tiny_q, LayerIndex(0), 1, 1, 0, 0}; },
     "q of layer 0: 2 tensors are placed as swapped, 0 move"},
    {"CopyOfAKeptTensor", [](Plan& p) { p.placement[0] = {tiny_x, LayerIndex(0), 0, 0, 2, 0}; },
     "x of layer 0, block 0 is written to tier 0, its placement swaps blocks 0 to 0"},
    {"PlacedTwice", [](Plan& p) { p.placement.push_back(p.placement[1]); }, "q of layer 0 is placed twice"},
};

constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();

const Fault range_faults[] = {
    {"CallSegment", [](Plan& p) { call(p, 3).segment = SegmentIndex(6); }, "call 3 is of segment 6 of 6"},
    {"CallLayer", [](Plan& p) { call(p, 3).layer = LayerIndex(1); }, "call 3 (before) is of layer 1 of 1"},
    {"CallBlock", [](Plan& p) { call(p, 3).block = BlockIndex(-1); }, "call 3 (before) is of block -1"},
    {"CallGroup", [](Plan& p) { call(p, 4).group = 2; }, "call 4 (core) is of group 2"},
    {"CallTrace", [](Plan& p) { call(p, 3).trace = TraceIndex(99); }, "call 3 (before) has trace 99"},
    {"CallPhase", [](Plan& p) { call(p, 3).phase = static_cast<Phase>(3); }, "call 3 (before) has phase 3"},
    {"CallWorkspace", [](Plan& p) { call(p, 3).workspace = Bytes(huge); }, "call 3 (before) has its workspace at"},
    {"TensorClass", [](Plan& p) { p.program.tensors[TensorIndex(2)].cls = ClassIndex(-1); }, "tensor 2 is of class -1"},
    {"TensorBlock", [](Plan& p) { p.program.tensors[TensorIndex(1)].block = BlockIndex(2); },
     "tensor 1 is x of layer 0, block 2"},
    {"TensorBytes", [](Plan& p) { p.program.tensors[TensorIndex(1)].bytes = Bytes(96); },
     "x of layer 0, block 1, has 96 bytes instead of 48"},
    {"ResidencyTensor", [](Plan& p) { residency(p, 5).tensor = TensorIndex(1000); }, "residency 5 is of tensor 1000"},
    {"ResidencyEnd", [](Plan& p) { residency(p, 5).end = Boundary(22); },
     "residency 5 of q of layer 0, block 0, group 1 is from boundary 1 to 22 of 21"},
    {"ResidencyOffset", [](Plan& p) { residency(p, 5).offset = Bytes(-64); },
     "residency 5 of q of layer 0, block 0, group 1 lies at -64"},
    {"CopyResidency", [](Plan& p) { copy(p, 0).residency = ResidencyIndex(-1); }, "copy 0 is of residency -1"},
    {"CopyTier", [](Plan& p) { copy(p, 0).tier = 1; }, "copy 0 of x of layer 0, block 0 is to tier 1 of 1"},
    {"CopyBefore", [](Plan& p) { copy(p, 0).before = Boundary(1); },
     "copy 0 of x of layer 0, block 0 runs from boundary 1 to 1"},
    {"FixedRegions", [](Plan& p) { p.program.fixed.pop_back(); }, "1 fixed regions for 2 pieces of fixed memory"},
    {"TransientLayouts", [](Plan& p) { p.program.transients.pop_back(); }, "16 transient layouts for 17 traces"},
    {"TierBytes", [](Plan& p) { p.program.tier_bytes.clear(); }, "0 numbers of used bytes for 1 tiers"},
    {"PlacementBlocks", [](Plan& p) { p.placement[0].kept = 2; },
     "x of layer 0: 0 recomputed + 1 swapped + 2 kept blocks are not 2"},
    {"Prediction", [](Plan& p) { p.predicted.step = Seconds(std::numeric_limits<double>::quiet_NaN()); },
     "the prediction has nan"},
    {"Layers", [](Plan& p) { p.profile.flow.layers = 2147483647; }, "2147483647 layers"},
    {"Context", [](Plan& p) { p.profile.flow.context = Tokens(huge); }, "a context of 9223372036854775807 tokens"},
    {"Row", [](Plan& p) { p.profile.flow.classes[ClassIndex(0)].row = Bytes(huge); }, "class x: a row of"},
    {"UseClass", [](Plan& p) { p.profile.flow.segments[SegmentIndex(1)].forward.reads[0].cls = ClassIndex(9); },
     "segment before forward reads class 9 of 9"},
    {"CoreReadsABlock",
     [](Plan& p) { p.profile.flow.segments[SegmentIndex(2)].forward.reads[0].whole_sequence = false; },
     "segment core forward reads a block of q, but it runs over the whole sequence"},
    {"BlockReadsAGroup", [](Plan& p) { p.profile.flow.segments[SegmentIndex(3)].forward.reads[1].every_group = false; },
     "segment after forward reads one group of o, but it runs over all groups"},
    {"NameWithNewline", [](Plan& p) { p.profile.flow.classes[ClassIndex(3)].name = "a\nb"; },
     "class 3 has an empty name or one with"},
    {"NameTaken", [](Plan& p) { p.profile.flow.classes[ClassIndex(3)].name = "x"; }, "class 3: the name 'x' is taken"},
    {"TraceMissing", [](Plan& p) { p.profile.traces[TraceIndex(1)].tokens = Tokens(3); },
     "the trace of embedding forward at 1 tokens is missing"},
    {"TraceTwice", [](Plan& p) { p.profile.traces[TraceIndex(1)].tokens = Tokens(2); },
     "the trace of embedding forward at 2 tokens is there twice"},
    {"RequestLife", [](Plan& p) { p.profile.traces[TraceIndex(4)].requests[1].dies = 1; },
     "request 1 dies at event 1, not after its birth at 1"},
    {"RequestOfAnotherClass", [](Plan& p) { p.profile.traces[TraceIndex(4)].requests[2].cls = tiny_h; },
     "request 2 holds h, which the segment does not write"},
    {"RequestLargerThanItsTensor", [](Plan& p) { p.profile.traces[TraceIndex(4)].requests[2].bytes = Bytes(33); },
     "request 2 holds s in 33 bytes, the tensor has 32"},
    {"TierRate", [](Plan& p) { p.profile.tiers[0].read = BytesPerSecond(0); }, "tier host has a rate of 0 bytes/s"},
    {"TierAlignment", [](Plan& p) { p.profile.tiers[0].alignment = 0; }, "tier host has an alignment of 0 bytes"},
};

const auto fault_name = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Data, PlantedFault, ::testing::ValuesIn(data_faults), fault_name);
INSTANTIATE_TEST_SUITE_P(Copies, PlantedFault, ::testing::ValuesIn(copy_faults), fault_name);
INSTANTIATE_TEST_SUITE_P(Space, PlantedFault, ::testing::ValuesIn(space_faults), fault_name);
INSTANTIATE_TEST_SUITE_P(Calls, PlantedFault, ::testing::ValuesIn(call_faults), fault_name);
INSTANTIATE_TEST_SUITE_P(Sums, PlantedFault, ::testing::ValuesIn(sum_faults), fault_name);
INSTANTIATE_TEST_SUITE_P(Ranges, PlantedFault, ::testing::ValuesIn(range_faults), fault_name);

TEST(Validate, NamesAtMostAsManyFailuresAsAsked) {
  Plan plan = tiny_plan();
  for (Residency& r : plan.program.residencies) r.offset = Bytes(640);
  EXPECT_EQ(validate(plan, 3).size(), 3u);
  EXPECT_GT(validate(plan, 1000).size(), 20u);
}

// Any single move of a residency that makes two of them share a byte at a boundary is found: checked against the
// definition, pair by pair.
TEST(Validate, FindsEveryOverlapThatTheDefinitionFinds) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    Plan plan = tiny_plan();
    Program& program = plan.program;
    program.copies.clear();  // residencies that are copied own more: tested above
    const ResidencyIndex moved(random() % program.residencies.size());
    program.residencies[moved].offset = Bytes(static_cast<std::int64_t>(random() % 240) * 8);
    const auto bytes = [&](const Residency& r) { return program.tensors[r.tensor].bytes; };
    bool overlap = false;
    for (const Residency& a : program.residencies)
      for (const Residency& b : program.residencies)
        overlap |= &a != &b && a.begin < b.end && b.begin < a.end && a.offset < b.offset + bytes(b) &&
                   b.offset < a.offset + bytes(a);
    const Residency& r = program.residencies[moved];
    overlap |= r.offset < Bytes(384);  // fixed memory
    for (int k : {1, 12})              // the calls with transients: [384, 576)
      overlap |= r.begin <= Boundary(k) && Boundary(k) < r.end && r.offset < Bytes(576);
    bool found = false;
    for (const std::string& line : validate(plan, 1000))
      found |= line.find(" overlap at boundary") != std::string::npos;
    EXPECT_EQ(found, overlap) << "residency " << moved.value() << " at " << r.offset.value();
  }
}

Profile sized_profile(int layers, int blocks, int groups) {
  Profile profile = tiny_profile();
  profile.flow.layers = layers;
  profile.flow.groups = groups;
  profile.flow.context = profile.flow.block * blocks - Tokens(1);
  for (Trace& trace : profile.traces)
    if (trace.segment == tiny_core || trace.segment == tiny_optimizer) trace.tokens = profile.flow.context;
  return profile;
}

TEST(Validate, AcceptsNaivePlansOfManyShapes) {
  for (int layers : {1, 2, 5})
    for (int blocks : {1, 2, 7})
      for (int groups : {1, 2, 3}) {
        Profile profile = sized_profile(layers, blocks, groups);
        if (blocks == 1) profile.flow.context = profile.flow.block;
        if (blocks == 1)
          for (Trace& trace : profile.traces)
            if (trace.segment == tiny_core || trace.segment == tiny_optimizer) trace.tokens = Tokens(2);
        EXPECT_THAT(validate(naive_plan(profile)), IsEmpty()) << layers << " " << blocks << " " << groups;
      }
}

// 32 layers x 1200 blocks: 150 000 calls, 500 000 residencies.
TEST(Validate, ChecksLargePlans) {
  const Plan plan = naive_plan(sized_profile(32, 1200, 2));
  EXPECT_GT(plan.program.calls.size(), 120000u);
  EXPECT_GT(plan.program.residencies.size(), 500000u);
  EXPECT_THAT(validate(plan), IsEmpty());
}

}  // namespace
}  // namespace memo::check
