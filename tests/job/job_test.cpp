// job.toml: what is read, and what is refused with one line that says where and what was expected.
#include "memo/job/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace memo::job {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* complete = R"(seed = 7
[model]
family = "qwen3"
hidden = 64
layers = 2
heads = 4
kv_heads = 2
head_dim = 32
ffn = 96
vocab = 256
tied = true
dtype = "bfloat16"
[data]
files = ["book.txt", "/corpus/tail.bin"]
tokenizer = "tokenizer.json"
bin_dtype = "uint32"
[train]
context = 16_384
block = 1024
head_groups = 2
batch = 3
steps = 20
lr = 1e-3
min_lr_ratio = 0
warmup_steps = 3
beta1 = 0.8
beta2 = 0.99
eps = 1e-6
weight_decay = 0.01
clip = 0
checkpoint_every = 10
[memory]
device = "cpu"
device_limit = "1.5GiB"
host_limit = "0"
disk = "scratch"
disk_limit = 1_000
slots = 4
checksums = "all"
watchdog = 2.5
)";

constexpr const char* least = R"([model]
path = "models/tiny"
[train]
context = 4096
)";

class JobFile : public testing::Test {
 protected:
  JobFile() : folder_(std::filesystem::path(testing::TempDir()) / ("memo-job-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~JobFile() override { std::filesystem::remove_all(folder_); }

  Result<Job> read(const std::string& text, const std::vector<std::string>& overrides = {}) {
    EXPECT_TRUE(write_atomically(file(), text));
    return read_job(file(), overrides);
  }
  std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {}) {
    const Result<Job> job = read(text, overrides);
    if (job) return "accepted";
    EXPECT_EQ(job.error().kind, ErrorKind::bad_input);
    EXPECT_EQ(job.error().message.find('\n'), std::string::npos) << job.error().message;
    return job.error().message;
  }
  [[nodiscard]] Path file() const { return folder_ / "job.toml"; }

  Path folder_;
};

TEST_F(JobFile, EveryKeyIsRead) {
  const Result<Job> job = read(complete);
  ASSERT_TRUE(job) << job.error().message;
  EXPECT_EQ(job->file, file());
  EXPECT_EQ(job->seed, 7u);
  EXPECT_FALSE(job->model.path);
  EXPECT_EQ(job->model.family, "qwen3");
  EXPECT_EQ(job->model.hidden, 64);
  EXPECT_EQ(job->model.layers, 2);
  EXPECT_EQ(job->model.heads, 4);
  EXPECT_EQ(job->model.kv_heads, 2);
  EXPECT_EQ(job->model.head_dim, 32);
  EXPECT_EQ(job->model.ffn, 96);
  EXPECT_EQ(job->model.vocab, 256);
  EXPECT_EQ(job->model.tied, true);
  EXPECT_EQ(job->model.dtype, DType::bfloat16);
  EXPECT_THAT(job->data.files, testing::ElementsAre(folder_ / "book.txt", Path("/corpus/tail.bin")));
  EXPECT_EQ(job->data.tokenizer, folder_ / "tokenizer.json");
  EXPECT_EQ(job->data.bin_dtype, "uint32");
  EXPECT_EQ(job->train.context, Tokens(16384));
  EXPECT_EQ(job->train.block, Tokens(1024));
  EXPECT_EQ(job->train.head_groups, 2);
  EXPECT_EQ(job->train.batch, 3);
  EXPECT_EQ(job->train.steps, 20);
  EXPECT_EQ(job->train.lr, 1e-3);
  EXPECT_EQ(job->train.min_lr_ratio, 0);
  EXPECT_EQ(job->train.warmup_steps, 3);
  EXPECT_EQ(job->train.beta1, 0.8);
  EXPECT_EQ(job->train.beta2, 0.99);
  EXPECT_EQ(job->train.eps, 1e-6);
  EXPECT_EQ(job->train.weight_decay, 0.01);
  EXPECT_EQ(job->train.clip, 0);
  EXPECT_EQ(job->train.checkpoint_every, 10);
  EXPECT_EQ(job->memory.device, "cpu");
  EXPECT_EQ(job->memory.device_limit, Bytes(3LL << 29));
  EXPECT_EQ(job->memory.host_limit, Bytes(0));
  EXPECT_EQ(job->memory.disk, folder_ / "scratch");
  EXPECT_EQ(job->memory.disk_limit, Bytes(1000));
  EXPECT_EQ(job->memory.slots, 4);
  EXPECT_EQ(job->memory.checksums, Checksums::all);
  EXPECT_EQ(job->memory.watchdog, Seconds(2.5));
}

TEST_F(JobFile, TheLeastJobIsAModelAndAContext) {
  const Result<Job> job = read(least);
  ASSERT_TRUE(job) << job.error().message;
  EXPECT_EQ(job->model.path, folder_ / "models/tiny");
  EXPECT_EQ(job->train.block, Tokens(0)) << "auto";
  EXPECT_EQ(job->memory.device, "auto");
  EXPECT_FALSE(job->memory.disk);
  EXPECT_TRUE(job->data.files.empty());
}

TEST_F(JobFile, AutoIsZero) {
  const Result<Job> job = read(std::string(least) + "block = \"auto\"\nhead_groups = \"auto\"\n");
  ASSERT_TRUE(job) << job.error().message;
  EXPECT_EQ(job->train.block, Tokens(0));
  EXPECT_EQ(job->train.head_groups, 0);
}

TEST_F(JobFile, OverridesWinAndTakeTomlOrBareStrings) {
  const Result<Job> job =
      read(complete, {"train.steps=5", "train.block=auto", "memory.device_limit=2GiB", "memory.disk=/var/tmp",
                      "train.lr=1", "data.files=[\"a.txt\"]", "seed=0x10", "model.dtype=\"float32\""});
  ASSERT_TRUE(job) << job.error().message;
  EXPECT_EQ(job->train.steps, 5);
  EXPECT_EQ(job->train.block, Tokens(0));
  EXPECT_EQ(job->memory.device_limit, Bytes(2LL << 30));
  EXPECT_EQ(job->memory.disk, Path("/var/tmp"));
  EXPECT_EQ(job->train.lr, 1.0);
  EXPECT_THAT(job->data.files, testing::ElementsAre(folder_ / "a.txt"));
  EXPECT_EQ(job->seed, 16u);
  EXPECT_EQ(job->model.dtype, DType::float32);
}

// tests/python/test_attach.py reads the same table.
TEST_F(JobFile, SizesOfOneTableInTheFileAndOnTheCommandLine) {
  std::ifstream table(MEMO_TEST_DATA "/sizes.csv");
  std::string line;
  std::getline(table, line);
  int rows = 0;
  for (; std::getline(table, line); ++rows) {
    const std::string size = line.substr(0, line.find(',')), bytes = line.substr(line.find(',') + 1);
    for (const Result<Job>& job : {read(least + ("[memory]\ndevice_limit = \"" + size + "\"\n")),
                                   read(least, {"memory.device_limit=" + size})}) {
      EXPECT_EQ(job ? std::to_string(job->memory.device_limit.value()) : "refused", bytes) << size;
    }
  }
  EXPECT_GT(rows, 20);
}

TEST_F(JobFile, AnOverrideSuppliesARequiredKey) { EXPECT_TRUE(read("[model]\npath = \"m\"\n", {"train.context=64"})); }

TEST_F(JobFile, OverridesAreCheckedAsTheFileIs) {
  struct Case {
    std::string set, says;
  };
  const std::vector<Case> cases{
      {"train.stepz=5", "--set train.stepz=5: key 'train.stepz' is unknown (did you mean 'train.steps'?)"},
      {"train.steps=0", "--set train.steps=0: 'train.steps' must be an integer of at least 1, found the integer 0"},
      {"train.steps=", "'train.steps' must be an integer of at least 1, found the string \"\""},
      {"train={steps=0}", "--set train={steps=0}: 'train' is a table; set its keys"},
      {"train.steps", "--set train.steps: write key=value"},
      {"=5", "--set =5: write key=value"},
      {"train..steps=5", "--set train..steps=5: key 'train..steps' is unknown"},
      {"train.steps.more=5", "key 'train.steps.more' is unknown"},
      {"memory.disk=", "'memory.disk' must be the path of a folder, found the string \"\""},
  };
  for (const Case& c : cases) EXPECT_THAT(refusal(least, {c.set}), HasSubstr(c.says)) << c.set;
}

TEST_F(JobFile, WhatIsWrongIsNamedWithItsLine) {
  struct Case {
    std::string line, says;  // the line is the fifth
  };
  const std::vector<Case> cases{
      {"stepz = 1", "key 'train.stepz' is unknown (did you mean 'train.steps'?)"},
      {"zzzzzzzz = 1", "key 'train.zzzzzzzz' is unknown"},
      {"[trian]", "key 'trian' is unknown"},
      {"[train.schedule]", "key 'train.schedule' is unknown"},
      {"context = 3", "redefine"},
      {"block = 8", "'train.block' must be \"auto\" or an integer of at least 16, found the integer 8"},
      {"block = \"big\"", "'train.block' must be \"auto\" or an integer of at least 16, found the string \"big\""},
      {"block = 1024.0", "found the number 1024"},
      {"head_groups = 0", "'train.head_groups' must be \"auto\" or an integer of at least 1"},
      {"steps = 0", "'train.steps' must be an integer of at least 1, found the integer 0"},
      {"steps = 3_000_000_000", "'train.steps' must be an integer of at least 1"},
      {"steps = true", "found true"},
      {"steps = [1]", "found a list"},
      {"steps = {a = 1}", "found a table"},
      {"steps = 1979-05-27", "found a date or time"},
      {"lr = 0", "'train.lr' must be a number above 0, found the integer 0"},
      {"lr = nan", "'train.lr' must be a number above 0"},
      {"lr = inf", "'train.lr' must be a number above 0"},
      {"lr = \"3e-4\"", "'train.lr' must be a number above 0, found the string \"3e-4\""},
      {"min_lr_ratio = 1.5", "'train.min_lr_ratio' must be a number from 0 to 1"},
      {"warmup_steps = -1", "'train.warmup_steps' must be an integer of at least 0"},
      {"beta1 = 1.0", "'train.beta1' must be a number from 0 to below 1"},
      {"beta2 = -0.1", "'train.beta2'"},
      {"eps = 0.0", "'train.eps' must be a number above 0"},
      {"weight_decay = -1", "'train.weight_decay' must be a number of at least 0"},
      {"clip = -1", "'train.clip'"},
      {"checkpoint_every = -1", "'train.checkpoint_every' must be \"never\" or an integer of at least 0"},
      {"checkpoint_every = \"auto\"", "'train.checkpoint_every'"},
      {"memory.device = \"cuda\"", "key 'train.memory' is unknown"},
      {"lr 3", "Error while parsing"},
      {"lr = ", "Error while parsing"},
      {"lr = \"open", "Error while parsing"},
  };
  for (const Case& c : cases) {
    const std::string says = refusal(std::string(least) + c.line + "\n");
    EXPECT_THAT(says, StartsWith(file().string() + ":5: ")) << c.line;
    EXPECT_THAT(says, HasSubstr(c.says)) << c.line;
  }
}

TEST_F(JobFile, OtherTablesAreCheckedToo) {
  struct Case {
    std::string lines, says;  // after the fourth line
  };
  const std::vector<Case> cases{
      {"[memory]\ndevice = \"gpu\"", ":6: 'memory.device' must be \"auto\", \"cpu\" or \"cuda\""},
      {"[memory]\ndevice_limit = \"1 GiBB\"", ":6: 'memory.device_limit' must be a size such as \"512MiB\" or \"0\""},
      {"[memory]\nhost_limit = -1", "'memory.host_limit' must be a size"},
      {"[memory]\ndisk_limit = 1.5", "'memory.disk_limit' must be a size"},
      {"[memory]\ndisk = 3", "'memory.disk' must be the path of a folder, found the integer 3"},
      {"[memory]\nslots = -2", "'memory.slots'"},
      {"[memory]\nchecksums = true", "'memory.checksums' must be \"none\", \"disk\" or \"all\", found true"},
      {"[memory]\nwatchdog = 0", "'memory.watchdog' must be a number of seconds above 0, found the integer 0"},
      {"[data]\nfiles = []", "'data.files' must be a list of one or more file names"},
      {"[data]\nfiles = \"a.txt\"", "'data.files' must be a list of one or more file names, found the string"},
      {"[data]\nfiles = [\"a\", 1]", "'data.files' must be a list"},
      {"[data]\ntokenizer = \"\"", "'data.tokenizer' must be the path of a tokenizer.json"},
      {"[data]\nbin_dtype = \"int8\"", "'data.bin_dtype' must be \"uint16\" or \"uint32\""},
  };
  for (const Case& c : cases) EXPECT_THAT(refusal(std::string(least) + c.lines + "\n"), HasSubstr(c.says)) << c.lines;
}

TEST_F(JobFile, WhatIsMissingOrContradictsIsSaid) {
  struct Case {
    std::string text, says;
  };
  const std::vector<Case> cases{
      {"", "'train.context' is missing"},
      {"[train]\ncontext = 64\n", "'model.hidden' is missing; give it, or 'model.path'"},
      {"[train]\ncontext = 64\n[model]\nhidden = 8\nlayers = 1\nheads = 1\nffn = 8\n", "'model.vocab' is missing"},
      {"[train]\ncontext = 64\n[model]\npath = \"m\"\nhidden = 8\n", "'model.hidden' is set, but config.json"},
      {"train = 5\n", ":1: 'train' must be a table, found the integer 5"},
      {"seed = -1\n", ":1: 'seed' must be an integer of at least 0"},
      {"[train]\ncontext = 1\n", ":2: 'train.context' must be an integer of at least 2, found the integer 1"},
      {"[model]\ndtype = \"float16\"\n", ":2: 'model.dtype' must be \"float32\" or \"bfloat16\""},
      {"[model]\ntied = 1\n", ":2: 'model.tied' must be true or false, found the integer 1"},
      {"[model]\nfamily = 1\n", ":2: 'model.family' must be the name of a model family"},
  };
  for (const Case& c : cases) EXPECT_THAT(refusal(c.text), HasSubstr(c.says)) << c.text;
}

// What a run that goes on makes of every key, and that a change of it shows: a key that is added wants a row here.
TEST_F(JobFile, EveryKeySaysWhatItsChangeMeansToARunThatGoesOn) {
  using enum AtResume;
  struct Row {
    std::string key, other, text;  // a value that is not `complete`'s or the default, and how it is told
    AtResume at_resume;
  };
  const std::vector<Row> rows{
      {"seed", "8", "8", same},
      {"model.path", "\"/m\"", "\"/m\"", content},
      {"model.family", "\"llama\"", "\"llama\"", content},
      {"model.hidden", "128", "128", content},
      {"model.layers", "3", "3", content},
      {"model.heads", "8", "8", content},
      {"model.kv_heads", "4", "4", content},
      {"model.head_dim", "16", "16", content},
      {"model.ffn", "128", "128", content},
      {"model.vocab", "512", "512", content},
      {"model.tied", "false", "false", content},
      {"model.dtype", "\"float32\"", "\"float32\"", same},
      {"data.files", "[\"/a\", \"/b\"]", "[\"/a\", \"/b\"]", content},
      {"data.tokenizer", "\"/t.json\"", "\"/t.json\"", content},
      {"data.bin_dtype", "\"uint16\"", "\"uint16\"", content},
      {"data.documents", "\"apart\"", "\"apart\"", same},
      {"data.end_token", "0", "0", same},
      {"train.context", "512", "512", same},
      {"train.block", "\"auto\"", "\"auto\"", rounding},
      {"train.head_groups", "1", "1", rounding},
      {"train.attention", "\"flash2\"", "\"flash2\"", rounding},
      {"train.loss_tile", "64", "64", rounding},
      {"train.batch", "2", "2", same},
      {"train.steps", "21", "21", course},
      {"train.lr", "3e-4", "0.0003", course},
      {"train.min_lr_ratio", "0.5", "0.5", course},
      {"train.warmup_steps", "4", "4", course},
      {"train.beta1", "0.9", "0.9", course},
      {"train.beta2", "0.9", "0.9", course},
      {"train.eps", "1e-8", "1e-08", course},
      {"train.weight_decay", "0", "0", course},
      {"train.clip", "1", "1", course},
      {"train.not_finite", "\"skip\"", "\"skip\"", course},
      {"train.checkpoint_every", "0", "0", free},
      {"train.keep_checkpoints", "5", "5", free},
      {"memory.device", "\"cuda\"", "\"cuda\"", rounding},
      {"memory.device_limit", "\"1KiB\"", "1024", free},
      {"memory.host_limit", "1", "1", free},
      {"memory.disk", "\"/d\"", "\"/d\"", free},
      {"memory.disk_limit", "2", "2", free},
      {"memory.slots", "5", "5", free},
      {"memory.checksums", "\"none\"", "\"none\"", free},
      {"memory.encrypt", "true", "true", free},
      {"memory.core_dumps", "false", "false", free},
      {"memory.watchdog", "3", "3", free},
  };
  const std::vector<KeyValue> before = key_values(*read(complete));
  ASSERT_EQ(before.size(), rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    EXPECT_EQ(before[i].name, row.key);
    EXPECT_EQ(before[i].at_resume, row.at_resume) << row.key;
    std::string text = complete;
    if (row.key == "model.path") text = least;  // it stands instead of a shape
    const Result<Job> job = read(text, {row.key + "=" + row.other});
    ASSERT_TRUE(job) << job.error().message;
    EXPECT_EQ(key_values(*job)[i], (KeyValue{row.key, row.text, row.at_resume}));
    EXPECT_NE(before[i].value, row.text) << row.key;
    EXPECT_EQ(place_of(*job, row.key), "--set " + row.key + "=" + row.other);
  }
  EXPECT_EQ(before[14].value, "\"uint32\"");
  EXPECT_EQ(before[16].value, "not set") << "data.end_token";
}

TEST_F(JobFile, TheValueOfEachKeyHasAPlace) {
  const Result<Job> job = read(least, {"train.steps=5"});
  EXPECT_EQ(place_of(*job, "train.context"), file().string() + ":4");
  EXPECT_EQ(place_of(*job, "train.steps"), "--set train.steps=5");
  EXPECT_EQ(place_of(*job, "train.lr"), file().string() + ", by default");
}

TEST_F(JobFile, ARunsSizesStandWhereTheJobLeavesThemToMemo) {
  const Job before =
      *read(least, {"train.block=512", "train.head_groups=2", "train.loss_tile=64", "memory.device=cuda"});
  std::map<std::string, std::string> keys;
  for (const KeyValue& key : key_values(before)) keys[key.name] = key.value;
  const Job all = as_before(*read(least), keys);
  EXPECT_EQ(all.train.block, Tokens(512));
  EXPECT_EQ(all.train.head_groups, 2);
  EXPECT_EQ(all.train.loss_tile, Tokens(64));
  EXPECT_EQ(all.memory.device, "auto");
  const Job some = as_before(*read(least, {"train.block=1024", "train.steps=7"}), keys);
  EXPECT_EQ(some.train.block, Tokens(1024)) << "the job's own";
  EXPECT_EQ(some.train.head_groups, 2);
  EXPECT_EQ(some.train.steps, 7);
  EXPECT_EQ(as_before(*read(least), {{"train.block", "3"}, {"train.loss_tile", "x"}}).train.block, Tokens(0));
}

TEST(JobFileMissing, IsNamed) {
  const Result<Job> job = read_job("no/such/job.toml");
  ASSERT_FALSE(job);
  EXPECT_EQ(job.error().message, "no/such/job.toml: cannot read: No such file or directory");
}

TEST(Job, CharactersThatAreNotAsciiBelongInStrings) {
  const Path file = Path(testing::TempDir()) / "non_ascii.toml";
  ASSERT_TRUE(write_atomically(file, "seed = 1\n\xc4\xbf\xdd\x9d\n"));
  EXPECT_NE(read_job(file).error().message.find("non_ascii.toml:2: a character that is not ASCII"), std::string::npos);
}

}  // namespace
}  // namespace memo::job
