// What is written is read back the same, to the bit; what is not a plan is refused in one line and never crashes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "memo/check/validate.h"
#include "memo/plan/plan.h"
#include "naive_plan.h"
#include "synthetic_profile.h"
#include "tiny_plan.h"

namespace memo::plan {
namespace {

using ::testing::HasSubstr;

class PlanFile : public ::testing::Test {
 protected:
  PlanFile() : folder_(std::filesystem::temp_directory_path() / ("memo_json_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
    path_ = folder_ / "plan.json";
  }
  ~PlanFile() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string text() const { return *read_text(path_); }
  void put(std::string_view text) const { std::ofstream(path_, std::ios::binary) << text; }
  // The text with the first `from` replaced.
  void edit(const std::string& from, const std::string& to) const {
    std::string all = text();
    const auto at = all.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    put(all.replace(at, from.size(), to));
  }
  std::string refusal() const {
    const Result<Plan> plan = read_plan(path_);
    EXPECT_FALSE(plan.has_value());
    if (plan) return "";
    EXPECT_EQ(plan.error().kind, ErrorKind::bad_input);
    EXPECT_EQ(plan.error().message.find('\n'), std::string::npos) << plan.error().message;
    EXPECT_THAT(plan.error().message, HasSubstr("plan.json: "));
    return plan.error().message;
  }

  Path folder_, path_;
};

void expect_equal(const model::Side& a, const model::Side& b) {
  const auto same = [](const std::vector<model::Use>& u, const std::vector<model::Use>& v) {
    ASSERT_EQ(u.size(), v.size());
    for (std::size_t i = 0; i < u.size(); ++i) {
      EXPECT_EQ(u[i].cls, v[i].cls);
      EXPECT_EQ(u[i].layer_shift, v[i].layer_shift);
      EXPECT_EQ(u[i].whole_sequence, v[i].whole_sequence);
      EXPECT_EQ(u[i].every_group, v[i].every_group);
    }
  };
  same(a.reads, b.reads);
  same(a.writes, b.writes);
}

void expect_equal(const Profile& a, const Profile& b) {
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.device, b.device);
  EXPECT_EQ(a.attention, b.attention);
  ASSERT_EQ(a.attention_measured.size(), b.attention_measured.size());
  for (std::size_t i = 0; i < a.attention_measured.size(); ++i) {
    EXPECT_EQ(a.attention_measured[i].kernel, b.attention_measured[i].kernel);
    EXPECT_EQ(a.attention_measured[i].tokens, b.attention_measured[i].tokens);
    EXPECT_EQ(a.attention_measured[i].forward, b.attention_measured[i].forward);
    EXPECT_EQ(a.attention_measured[i].backward, b.attention_measured[i].backward);
  }
  EXPECT_EQ(a.flow.layers, b.flow.layers);
  EXPECT_EQ(a.flow.groups, b.flow.groups);
  EXPECT_EQ(a.flow.context, b.flow.context);
  EXPECT_EQ(a.flow.block, b.flow.block);
  EXPECT_EQ(a.flow.kinds, b.flow.kinds);
  EXPECT_EQ(a.flow.forward_layers, b.flow.forward_layers);
  ASSERT_EQ(a.flow.classes.size(), b.flow.classes.size());
  for (const ClassIndex i : a.flow.classes.indices()) {
    EXPECT_EQ(a.flow.classes[i].name, b.flow.classes[i].name);
    EXPECT_EQ(a.flow.classes[i].role, b.flow.classes[i].role);
    EXPECT_EQ(a.flow.classes[i].stage, b.flow.classes[i].stage);
    EXPECT_EQ(a.flow.classes[i].row, b.flow.classes[i].row);
    EXPECT_EQ(a.flow.classes[i].grouped, b.flow.classes[i].grouped);
    EXPECT_EQ(a.flow.classes[i].sequence, b.flow.classes[i].sequence);
  }
  ASSERT_EQ(a.flow.segments.size(), b.flow.segments.size());
  for (const SegmentIndex i : a.flow.segments.indices()) {
    EXPECT_EQ(a.flow.segments[i].name, b.flow.segments[i].name);
    EXPECT_EQ(a.flow.segments[i].role, b.flow.segments[i].role);
    EXPECT_EQ(a.flow.segments[i].stage, b.flow.segments[i].stage);
    EXPECT_EQ(a.flow.segments[i].kind, b.flow.segments[i].kind);
    expect_equal(a.flow.segments[i].forward, b.flow.segments[i].forward);
    expect_equal(a.flow.segments[i].backward, b.flow.segments[i].backward);
  }
  ASSERT_EQ(a.traces.size(), b.traces.size());
  for (const TraceIndex i : a.traces.indices()) {
    const Trace &s = a.traces[i], &t = b.traces[i];
    EXPECT_EQ(std::tie(s.segment, s.backward, s.tokens, s.seconds),
              std::tie(t.segment, t.backward, t.tokens, t.seconds));
    ASSERT_EQ(s.requests.size(), t.requests.size());
    for (std::size_t j = 0; j < s.requests.size(); ++j) {
      const Request &q = s.requests[j], &r = t.requests[j];
      EXPECT_EQ(std::tie(q.bytes, q.born, q.dies, q.cls, q.group), std::tie(r.bytes, r.born, r.dies, r.cls, r.group));
    }
  }
  ASSERT_EQ(a.fixed.size(), b.fixed.size());
  for (std::size_t i = 0; i < a.fixed.size(); ++i) {
    EXPECT_EQ(a.fixed[i].name, b.fixed[i].name);
    EXPECT_EQ(a.fixed[i].bytes, b.fixed[i].bytes);
  }
  EXPECT_EQ(a.loss_tile, b.loss_tile);
  ASSERT_EQ(a.blocks_measured.size(), b.blocks_measured.size());
  for (std::size_t i = 0; i < a.blocks_measured.size(); ++i) {
    EXPECT_EQ(a.blocks_measured[i].block, b.blocks_measured[i].block);
    EXPECT_EQ(a.blocks_measured[i].per_token, b.blocks_measured[i].per_token);
  }
  ASSERT_EQ(a.tiers.size(), b.tiers.size());
  for (std::size_t i = 0; i < a.tiers.size(); ++i) {
    const Tier &s = a.tiers[i], &t = b.tiers[i];
    EXPECT_EQ(std::tie(s.name, s.capacity, s.write, s.read, s.write_with_read, s.read_with_write, s.compute_slowdown,
                       s.alignment),
              std::tie(t.name, t.capacity, t.write, t.read, t.write_with_read, t.read_with_write, t.compute_slowdown,
                       t.alignment));
  }
}

template <class T, class Tie>
void expect_rows(const std::vector<T>& a, const std::vector<T>& b, Tie tie) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(tie(a[i]), tie(b[i])) << i;
}

void expect_equal(const Plan& a, const Plan& b) {
  EXPECT_EQ(std::tie(a.strategy, a.device_limit, a.slots), std::tie(b.strategy, b.device_limit, b.slots));
  expect_equal(a.profile, b.profile);
  expect_rows(a.placement, b.placement, [](const ClassPlacement& p) {
    return std::tie(p.cls, p.layer, p.swapped, p.recomputed, p.kept, p.tier);
  });
  const auto prediction = [](const Prediction& p) {
    return std::tie(p.device_peak, p.device_lower_bound, p.step, p.stall, p.step_lower_bound, p.bytes_out, p.bytes_in,
                    p.placement_gap);
  };
  EXPECT_EQ(prediction(a.predicted), prediction(b.predicted));
  const Program &p = a.program, &q = b.program;
  EXPECT_EQ(p.arena, q.arena);
  EXPECT_EQ(p.tier_bytes, q.tier_bytes);
  expect_rows(p.fixed, q.fixed, [](const Region& r) { return std::tie(r.offset, r.bytes); });
  expect_rows(p.transients, q.transients, [](const Transients& t) { return std::tie(t.bytes, t.offsets); });
  expect_rows(p.calls, q.calls, [](const Call& c) {
    return std::tie(c.segment, c.phase, c.layer, c.block, c.group, c.trace, c.workspace);
  });
  expect_rows(p.tensors, q.tensors,
              [](const Tensor& t) { return std::tie(t.cls, t.layer, t.block, t.group, t.bytes); });
  expect_rows(p.residencies, q.residencies,
              [](const Residency& r) { return std::tie(r.tensor, r.begin, r.end, r.offset, r.origin); });
  expect_rows(p.copies, q.copies,
              [](const Copy& c) { return std::tie(c.residency, c.direction, c.tier, c.tier_offset, c.at, c.before); });
}

TEST_F(PlanFile, ReadsAPlanAsItWasWritten) {
  Plan plan = tiny_plan();
  plan.strategy = "memo \"\\\n\xc3\xa9";
  plan.slots = 7;
  plan.profile.traces.front().seconds = Seconds(0.1 + 0.2);  // needs all 17 digits
  plan.predicted.stall = Seconds(5e-324);
  ASSERT_TRUE(write_plan(plan, path_).has_value());
  const Result<Plan> read = read_plan(path_);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  expect_equal(*read, plan);
}

TEST_F(PlanFile, ReadsAProfileAsItWasWritten) {
  Profile profile = tiny_profile();
  profile.loss_tile = Tokens(512);
  profile.blocks_measured = {{Tokens(1024), Seconds(0.1 + 0.2)}, {Tokens(2048), Seconds(1e-7)}};
  ASSERT_TRUE(write_profile(profile, path_).has_value());
  const Result<Profile> read = read_profile(path_);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  expect_equal(*read, profile);
}

TEST_F(PlanFile, AProfileNamesItsKernelOfAttention) {
  Profile profile = tiny_profile();
  profile.device = "NVIDIA H200";
  profile.attention = "cudnn";
  profile.attention_measured = {{"flash2", Tokens(1 << 17), Seconds(0.1 + 0.2), Seconds(0.7)},
                                {"cudnn", Tokens(1 << 17), Seconds(0.2), Seconds(5e-324)}};
  ASSERT_TRUE(write_profile(profile, path_).has_value());
  const Result<Profile> read = read_profile(path_);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  expect_equal(*read, profile);
  edit("\"backward_seconds\": 0.7", "\"backward_seconds\": -1");
  EXPECT_THAT(read_profile(path_).error().message, HasSubstr("attention takes -1 seconds"));
}

// Version 3 has no such keys; each kind of device had one kernel, and the loss a CPU's tiles.
TEST_F(PlanFile, AProfileOfVersion3IsOfTheKernelAndSizesOfItsTime) {
  for (const std::string device : {"cpu, 2 threads", "NVIDIA H200"}) {
    Profile profile = tiny_profile();
    profile.device = device;
    ASSERT_TRUE(write_profile(profile, path_).has_value());
    auto json = nlohmann::ordered_json::parse(text());
    json["version"] = 3;
    put(json.dump(1));
    EXPECT_THAT(read_profile(path_).error().message, HasSubstr("attention"));  // a key that version 3 does not know
    for (const char* key : {"attention", "attention_measured", "loss_tile_tokens", "blocks_measured"}) json.erase(key);
    put(json.dump(1));
    const Result<Profile> read = read_profile(path_);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    profile.attention = device == "NVIDIA H200" ? "flash2" : "cpu";
    expect_equal(*read, profile);
    edit("\"version\": 3", "\"version\": 2");
    EXPECT_THAT(read_profile(path_).error().message, HasSubstr("this Memo reads version 3 to 4"));
  }
}

TEST_F(PlanFile, WritesNoProfileWithSizesThatCannotBe) {
  Profile profile = tiny_profile();
  profile.loss_tile = Tokens(-1);
  EXPECT_THAT(write_profile(profile, path_).error().message, HasSubstr("a loss tile has -1 tokens"));
  profile = tiny_profile();
  profile.blocks_measured = {{Tokens(1024), Seconds(0)}};
  EXPECT_THAT(write_profile(profile, path_).error().message,
              HasSubstr("a block of 1024 tokens was measured to take 0"));
}

// A profile with a trace of every call, which allocates nothing.
Profile bare_profile(const model::Dataflow& flow) {
  Profile profile;
  profile.flow = flow;
  for (const SegmentIndex s : flow.segments.indices())
    for (const bool backward : {false, true})
      for (const Tokens tokens : std::set<Tokens>{flow.block, flow.block_tokens(flow.last_block()), flow.context})
        profile.traces.push_back({s, backward, tokens, Seconds(1), {}});
  return profile;
}

TEST_F(PlanFile, RolesAreThoseOfTheNamesInTheFile) {
  const model::LayerShape layers{.layers = 2, .hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .kinds = {0, 1}};
  model::Dataflow alone = model::layers_dataflow(layers, 4, 2, 1, Tokens(64), Tokens(16));
  alone.classes.push_back({"after (kind 1).saved2", model::TensorRole::saved, Bytes(4)});
  model::Dataflow strange = tiny_flow();
  strange.classes.push_back({"weights", model::TensorRole::other, Bytes(4)});
  for (const model::Dataflow& flow : {synthetic_profile().flow, alone, strange}) {
    ASSERT_TRUE(write_profile(bare_profile(flow), path_).has_value());
    const Result<Profile> read = read_profile(path_);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    expect_equal(*read, bare_profile(flow));
    EXPECT_EQ(text().find("role"), std::string::npos);
  }
}

TEST_F(PlanFile, FindsTracesBySegmentSideAndTokens) {
  const Profile profile = tiny_profile();
  EXPECT_EQ(profile.trace_of(tiny_before, false, Tokens(2)), TraceIndex(4));
  EXPECT_EQ(profile.trace_of(tiny_before, true, Tokens(1)), TraceIndex(7));
  EXPECT_EQ(profile.trace_of(tiny_optimizer, false, Tokens(0)), TraceIndex(16));  // whatever the tokens
  EXPECT_DEATH(static_cast<void>(profile.trace_of(tiny_before, false, Tokens(3))), "trace of every call");
}

TEST_F(PlanFile, WritesNoPlanThatItWouldNotRead) {
  Plan plan = tiny_plan();
  plan.program.copies[0].residency = ResidencyIndex(1000);
  const Status status = write_plan(plan, path_);
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("not written, the plan is wrong: copy 0 is of residency 1000"));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(PlanFile, NamesWhatIsWrong) {
  struct Edit {
    const char *from, *to, *message;
  };
  const Edit edits[] = {
      {"\"version\":3", "\"version\":2", "version 2 of memo-plan, this Memo reads version 3; make the file again"},
      {"\"format\":\"memo-plan\"", "\"format\":\"memo-profile\"", "is a memo-profile file, not a memo-plan one"},
      {"\"format\":\"memo-plan\"", "\"format\":\"other\"", "not a memo-plan file"},
      {"\"format\":\"memo-plan\",", "", "not a memo-plan file; give it a file that 'memo plan' wrote"},
      {"\"slots\":2", "\"slots\":2.5", "slots: expected an integer from"},
      {"\"slots\":2", "\"slots\":18446744073709551615", "slots: expected an integer from"},
      {"\"slots\":2", "\"slots\":true", "slots: expected an integer from"},
      {"\"slots\":2,", "", "'slots' is missing"},
      {"\"slots\":2", "\"slots\":2,\"slot\":3", "unknown key \"slot\""},
      {"\"row_bytes\":32", "\"row_bytes\":\"32\"", "profile.flow.classes[1].row_bytes: expected an integer"},
      {"\"stage\":\"core\"", "\"stage\":\"cores\"", "profile.flow.segments[2].stage: is none of embedding, before"},
      {"{\"class\":\"o\"", "{\"class\":\"oo\"",
       "profile.flow.segments[2].forward.writes[0].class: is none of the names"},
      {"\"seconds\":0.3", "\"seconds\":\"0.3\"", "profile.traces[14].seconds: expected a number, found string"},
      {"[\"segment\",\"phase\"", "[\"phase\",\"segment\"", "program.calls.columns: expected [\"segment\",\"phase\""},
      {"[1,0,0,0,-1,4,384]", "[1,0,0,0,-1,4]", "program.calls.rows[1]: expected integers in range"},
      {"[1,0,0,0,-1,4,384]", "[1,0,0,0,-1,4,null]", "program.calls.rows[1]: expected integers in range"},
      {"[1,0,0,0,-1,4,384]", "[1,-1,0,0,-1,4,384]", "program.calls.rows[1]: expected integers in range"},
      {"[1,0,0,0,-1,4,384]", "[1,4294967296,0,0,-1,4,384]", "program.calls.rows[1]: expected integers in range"},
      {"[1,0,0,0,-1,4,384]", "[1,0,0,0,-1,99,384]", "call 1 (before) has trace 99 of 17"},
      {"\"program\":{", "\"program\":[{", "not JSON"},
  };
  for (const Edit& e : edits) {
    std::filesystem::remove(path_);
    const Status written = write_plan(tiny_plan(), path_);
    ASSERT_TRUE(written.has_value()) << written.error().message;
    edit(e.from, e.to);
    EXPECT_THAT(refusal(), HasSubstr(e.message)) << e.from << " -> " << e.to;
  }
}

TEST_F(PlanFile, RefusesForeignFiles) {
  for (const char* foreign : {"", "null", "[]", "3", "\"memo-plan\"", "{}", "[[[[", "\xff\xfe", "{\"format\":1}"}) {
    put(foreign);
    refusal();
  }
  std::string deep(200000, '[');
  put(deep);
  refusal();
  path_ = folder_ / "absent" / "plan.json";
  EXPECT_THAT(refusal(), HasSubstr("cannot read"));
}

TEST_F(PlanFile, RefusesTruncations) {
  ASSERT_TRUE(write_plan(tiny_plan(), path_).has_value());
  const std::string whole = text();
  const auto last = whole.find_last_of('}');
  for (std::size_t size = 0; size <= last; size += size < 100 || size + 100 > last ? 1 : 17) {
    put(std::string_view(whole).substr(0, size));
    refusal();
  }
}

// Bytes changed at random: the reader refuses, or hands on a plan that the validator can walk.
TEST_F(PlanFile, SurvivesMutations) {
  ASSERT_TRUE(write_plan(tiny_plan(), path_).has_value());
  const std::string whole = text();
  std::mt19937 random(1);
  int read = 0, valid = 0;
  for (int trial = 0; trial < 1500; ++trial) {
    std::string mutant = whole;
    for (unsigned changes = 1 + random() % 3; changes > 0; --changes) {
      // Every second trial changes digits alone, so that most of its mutants are still JSON.
      std::size_t at = random() % mutant.size();
      if (trial % 2 == 0) at = mutant.find_first_of("0123456789", at);
      if (at == std::string::npos) continue;
      const char* alphabet = "0123456789-,[]{}\":.ex ";
      if (mutant[at] >= '0' && mutant[at] <= '9')
        mutant[at] = static_cast<char>('0' + random() % 10);
      else if (random() % 2 == 0)
        mutant.erase(at, 1 + random() % 8);
      else
        mutant[at] = alphabet[random() % 22];
    }
    put(mutant);
    const Result<Plan> plan = read_plan(path_);
    if (!plan) {
      EXPECT_EQ(plan.error().message.find('\n'), std::string::npos) << plan.error().message;
      continue;
    }
    ++read;
    const std::vector<std::string> failures = check::validate(*plan);
    for (const std::string& line : failures) EXPECT_EQ(line.find('\n'), std::string::npos) << line;
    valid += failures.empty() ? 1 : 0;
  }
  EXPECT_GT(read, 100);  // the mutations reach the validator
  EXPECT_LT(valid, read);
}

// 8 MB and more: what a plan of a large model has.
TEST_F(PlanFile, ReadsLargePlans) {
  Profile profile = tiny_profile();
  profile.flow.layers = 32;
  profile.flow.context = Tokens(2 * 512 - 1);
  for (Trace& trace : profile.traces)
    if (trace.segment == tiny_core || trace.segment == tiny_optimizer) trace.tokens = profile.flow.context;
  const Plan plan = naive_plan(profile);
  ASSERT_TRUE(write_plan(plan, path_).has_value());
  EXPECT_GT(std::filesystem::file_size(path_), 8u << 20);
  const Result<Plan> read = read_plan(path_);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->program.residencies.size(), plan.program.residencies.size());
}

}  // namespace
}  // namespace memo::plan
