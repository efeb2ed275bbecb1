// safetensors: files of the Python package are read, ours are the same bytes, and hostile files end in one line.
#include "memo/store/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "memo/base/json.h"

namespace memo::store {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Path made = Path(MEMO_TEST_DATA) / "safetensors";  // by make_safetensors.py

using Shape = std::vector<std::int64_t>;

// Tensors as make_safetensors.py fills them: element i of n is i - n / 2 + 0.25.
std::vector<float> ramp(std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i - count / 2) + 0.25F);
  return values;
}
// Exact for these values: bfloat16 is the upper half of a float32.
std::vector<std::uint16_t> as_bf16(const std::vector<float>& values) {
  std::vector<std::uint16_t> result;
  for (const float value : values)
    result.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
  return result;
}
// -3.75 ... 3.25
const std::vector<std::uint16_t> ramp_of_8_as_f16{0xC380, 0xC180, 0xBF00, 0xBA00, 0x3400, 0x3D00, 0x4080, 0x4280};

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

class Safetensors : public testing::Test {
 protected:
  Safetensors() : folder_(Path(testing::TempDir()) / ("memo-safetensors-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~Safetensors() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] Path file() const { return folder_ / "model.safetensors"; }
  void write_raw(const std::string& content) const {
    std::ofstream out(file(), std::ios::binary);
    ASSERT_TRUE(out.write(content.data(), static_cast<std::streamsize>(content.size())).flush());
  }
  // A file of a header, as text, and `data` bytes.
  void write_header(const std::string& header, std::size_t data) const {
    const std::uint64_t size = header.size();
    write_raw(std::string(reinterpret_cast<const char*>(&size), 8) + header + std::string(data, 'x'));
  }

  Path folder_;
};

std::vector<std::byte> whole(const TensorFiles& files, const std::string& name) {
  const Result<const TensorEntry*> entry = files.find(name);
  if (!entry) return {};
  std::vector<std::byte> bytes(static_cast<std::size_t>((*entry)->bytes.value()));
  EXPECT_TRUE(files.read(name, 0, bytes));
  return bytes;
}

std::string one_line_error(const Error& error) {
  EXPECT_EQ(error.kind, ErrorKind::bad_input);
  EXPECT_EQ(error.message.find('\n'), std::string::npos) << error.message;
  EXPECT_LT(error.message.size(), 1000U);
  return error.message;
}
std::string refusal(const Path& path) {
  const auto files =
      std::filesystem::is_directory(path) ? TensorFiles::open_folder(path) : TensorFiles::open_file(path);
  return files ? "accepted" : one_line_error(files.error());
}

void expect_the_made_tensors(const TensorFiles& files) {
  const auto& tensors = files.tensors();
  ASSERT_EQ(tensors.size(), 5U);
  EXPECT_EQ(tensors.at("a.weight").dtype, TensorDType::f32);
  EXPECT_EQ(tensors.at("a.weight").shape, (Shape{3, 5}));
  EXPECT_EQ(tensors.at("b.scalar").shape, Shape{});
  EXPECT_EQ(tensors.at("c.empty").shape, (Shape{0, 4}));
  EXPECT_EQ(tensors.at("c.empty").bytes, Bytes(0));
  EXPECT_EQ(tensors.at("d.weight").dtype, TensorDType::bf16);
  EXPECT_EQ(tensors.at("e.weight").dtype, TensorDType::f16);
  EXPECT_EQ(tensors.at("e.weight").shape, (Shape{2, 2, 2}));
  EXPECT_EQ(whole(files, "a.weight"), bytes_of(ramp(15)));
  EXPECT_EQ(whole(files, "b.scalar"), bytes_of(ramp(1)));
  EXPECT_THAT(whole(files, "c.empty"), IsEmpty());
  EXPECT_EQ(whole(files, "d.weight"), bytes_of(as_bf16(ramp(7))));
  EXPECT_EQ(whole(files, "e.weight"), bytes_of(ramp_of_8_as_f16));
}

TEST_F(Safetensors, AFileOfThePythonPackageIsRead) {
  const auto files = TensorFiles::open_folder(made / "whole");
  ASSERT_TRUE(files) << files.error().message;
  expect_the_made_tensors(*files);
}

TEST_F(Safetensors, ShardsAreReadThroughTheirIndex) {
  const auto files = TensorFiles::open_folder(made / "sharded");
  ASSERT_TRUE(files) << files.error().message;
  expect_the_made_tensors(*files);
}

TEST_F(Safetensors, OtherDtypesAreListed) {
  const auto files = TensorFiles::open_file(made / "masks.safetensors");
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(files->tensors().at("mask").dtype, TensorDType::other);
  EXPECT_EQ(files->tensors().at("mask").bytes, Bytes(9));
  EXPECT_EQ(files->tensors().at("position_ids").bytes, Bytes(32));
}

TEST_F(Safetensors, PartOfATensorIsRead) {
  const auto files = TensorFiles::open_folder(made / "whole");
  ASSERT_TRUE(files);
  std::vector<float> row(5);  // the second
  ASSERT_TRUE(files->read("a.weight", 20, std::as_writable_bytes(std::span(row))));
  EXPECT_THAT(row, ElementsAre(-1.75F, -0.75F, 0.25F, 1.25F, 2.25F));
}

// Tensors in memory, as sources.
struct Model {
  std::map<std::string, std::vector<std::byte>> memory;
  std::vector<TensorSource> sources;
  void add(const std::string& name, TensorDType dtype, Shape shape, std::vector<std::byte> bytes) {
    const auto& kept = memory[name] = std::move(bytes);
    sources.push_back({name, dtype, std::move(shape), [&kept] { return std::span<const std::byte>(kept); }});
  }
};

Model the_made_model() {
  Model model;
  model.add("a.weight", TensorDType::f32, {3, 5}, bytes_of(ramp(15)));
  model.add("b.scalar", TensorDType::f32, {}, bytes_of(ramp(1)));
  model.add("c.empty", TensorDType::f32, {0, 4}, {});
  model.add("d.weight", TensorDType::bf16, {7}, bytes_of(as_bf16(ramp(7))));
  model.add("e.weight", TensorDType::f16, {2, 2, 2}, bytes_of(ramp_of_8_as_f16));
  return model;
}

TEST_F(Safetensors, AWrittenFileHasTheBytesThatThePythonPackageWrites) {
  ASSERT_TRUE(write_tensor_file(file(), the_made_model().sources));
  EXPECT_EQ(*read_text(file()), *read_text(made / "whole" / "model.safetensors"));
}

TEST_F(Safetensors, WrittenShardsAreThoseOfThePythonPackage) {
  ASSERT_TRUE(write_tensor_folder(folder_, the_made_model().sources, Bytes(64)));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) names.push_back(entry.path().filename());
  EXPECT_THAT(names, testing::UnorderedElementsAre("model-00001-of-00002.safetensors",
                                                   "model-00002-of-00002.safetensors", "model.safetensors.index.json"));
  const auto files = TensorFiles::open_folder(folder_);
  ASSERT_TRUE(files) << files.error().message;
  expect_the_made_tensors(*files);
  EXPECT_EQ(read_json(folder_ / "model.safetensors.index.json")->at("metadata").at("total_size"), 94);
}

TEST_F(Safetensors, ALimitSplitsTheModelIntoShardsWithinIt) {
  Model model;
  for (int i = 0; i < 9; ++i)
    model.add("t" + std::to_string(i), TensorDType::f32, {i + 1}, bytes_of(ramp(i + 1)));  // 4 to 36 bytes
  ASSERT_TRUE(write_tensor_folder(folder_, model.sources, Bytes(32)));
  const auto files = TensorFiles::open_folder(folder_);
  ASSERT_TRUE(files) << files.error().message;
  std::map<Path, std::vector<std::int64_t>> shards;
  for (const auto& [name, entry] : files->tensors()) {
    EXPECT_EQ(whole(*files, name), model.memory.at(name));
    shards[entry.file.filename()].push_back(entry.bytes.value());
  }
  EXPECT_THAT(shards, testing::Each(testing::Field(&std::pair<const Path, std::vector<std::int64_t>>::second,
                                                   testing::Truly([](const auto& sizes) {
                                                     return sizes.size() == 1 ||
                                                            std::accumulate(sizes.begin(), sizes.end(), 0L) <= 32;
                                                   }))));
  EXPECT_EQ(shards.size(), 7U);  // 4+8+12, 16, 20, 24, 28, 32, 36
}

TEST_F(Safetensors, OneShardIsOneFile) {
  ASSERT_TRUE(write_tensor_folder(folder_, the_made_model().sources, Bytes(94)));
  EXPECT_TRUE(std::filesystem::exists(file()));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "model.safetensors.index.json"));
}

TEST_F(Safetensors, NarrowTensorsBeforeWideOnesLeaveAllAligned) {
  Model model;
  model.add("narrow", TensorDType::bf16, {3}, bytes_of(as_bf16(ramp(3))));
  model.add("wide", TensorDType::f32, {2}, bytes_of(ramp(2)));
  ASSERT_TRUE(write_tensor_file(file(), model.sources));
  const auto files = TensorFiles::open_file(file());
  ASSERT_TRUE(files);
  EXPECT_EQ(files->tensors().at("wide").offset % 4, 0);
  EXPECT_EQ(whole(*files, "narrow"), model.memory.at("narrow"));
  EXPECT_EQ(whole(*files, "wide"), model.memory.at("wide"));
}

TEST_F(Safetensors, AFolderThatHoldsAModelIsLeftAlone) {
  ASSERT_TRUE(write_tensor_folder(folder_, the_made_model().sources, Bytes(0)));
  const auto again = write_tensor_folder(folder_, the_made_model().sources, Bytes(64));
  ASSERT_FALSE(again);
  EXPECT_THAT(one_line_error(again.error()), AllOf(HasSubstr("model.safetensors"), HasSubstr("another folder")));
}

TEST_F(Safetensors, AFailedWriteLeavesNothing) {
  const auto status = write_tensor_file(folder_ / "none" / "model.safetensors", the_made_model().sources);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::run_time);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(Safetensors, MissingFilesAndTensorsAreNamed) {
  EXPECT_THAT(refusal(folder_), HasSubstr("holds no weights, neither model.safetensors nor"));
  EXPECT_THAT(refusal(folder_ / "gone.safetensors"), HasSubstr("gone.safetensors: cannot read"));
  const auto files = TensorFiles::open_folder(made / "whole");
  ASSERT_TRUE(files);
  EXPECT_THAT(one_line_error(files->find("z.weight").error()), HasSubstr("has no tensor 'z.weight'"));
}

TEST_F(Safetensors, AMissingShardIsNamedWithATensor) {
  std::filesystem::copy(made / "sharded", folder_, std::filesystem::copy_options::recursive);
  std::filesystem::remove(folder_ / "model-00002-of-00002.safetensors");
  EXPECT_THAT(refusal(folder_),
              AllOf(HasSubstr("model-00002-of-00002.safetensors: is missing"), HasSubstr("'c.empty'")));
}

TEST_F(Safetensors, AShardWithoutItsTensorIsNamed) {
  std::filesystem::copy(made / "sharded", folder_, std::filesystem::copy_options::recursive);
  std::filesystem::copy_file(folder_ / "model-00001-of-00002.safetensors", folder_ / "model-00002-of-00002.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(refusal(folder_), AllOf(HasSubstr("model-00002-of-00002.safetensors"), HasSubstr("no tensor 'c.empty'")));
}

TEST_F(Safetensors, ATensorInTwoShardsIsRefused) {
  Model model;
  for (const char* name : {"a", "b"}) model.add(name, TensorDType::f32, {2}, bytes_of(ramp(2)));
  ASSERT_TRUE(write_tensor_file(folder_ / "one.safetensors", model.sources));
  ASSERT_TRUE(write_tensor_file(folder_ / "two.safetensors", std::span(model.sources).last(1)));
  const nlohmann::json index{{"weight_map", {{"a", "one.safetensors"}, {"b", "two.safetensors"}}}};
  ASSERT_TRUE(write_atomically(folder_ / "model.safetensors.index.json", json_text(index)));
  EXPECT_THAT(refusal(folder_), AllOf(HasSubstr("'b' is in"), HasSubstr("one.safetensors"), HasSubstr("two.saf")));
}

TEST_F(Safetensors, WhatLiesInAFilesPlaceIsNamed) {
  const std::vector<std::pair<std::string, const char*>> cases{
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4976698672\n",
       "is a Git LFS pointer, not the file of 4.63 GiB that it stands for; run `git lfs pull`"},
      {"\n<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page, not the file"},
      {"Entry not found", "is text, not safetensors: 'Entry not found'; download it again"},
      {std::string("PK\3\4", 4) + std::string(100, '\0'), "is a PyTorch file under another name"},
      {"GGUF" + std::string(100, '\0'), "is a GGUF file under another name"},
  };
  for (const auto& [content, says] : cases) {
    write_raw(content);
    EXPECT_THAT(refusal(file()), HasSubstr(says));
  }
  std::filesystem::remove(file());
  std::filesystem::create_symlink("../../blobs/4d7a", file());
  EXPECT_THAT(refusal(folder_), HasSubstr("model.safetensors: is a link to ../../blobs/4d7a, which is not there"));
}

TEST_F(Safetensors, NoIndexLeadsOutOfTheFolder) {
  for (const char* name : {"../model.safetensors", "/etc/passwd", "sub/x", "..", ".", ""}) {
    const nlohmann::json index{{"weight_map", {{"w", name}}}};
    ASSERT_TRUE(write_atomically(folder_ / "model.safetensors.index.json", json_text(index)));
    EXPECT_THAT(refusal(folder_), HasSubstr("no name of a file in this folder")) << name;
  }
}

// Every prefix of a good file: an error that names the file, and never a read beyond its end.
TEST_F(Safetensors, TruncationAtAnyByteIsFound) {
  const std::string good = *read_text(made / "whole" / "model.safetensors");
  for (std::size_t size = 0; size < good.size(); ++size) {
    write_raw(good.substr(0, size));
    EXPECT_THAT(refusal(file()), AllOf(HasSubstr("model.safetensors"), HasSubstr(size == 0 ? "is empty" : "truncated")))
        << size;
  }
  write_raw(good.substr(0, good.size() - 1));
  EXPECT_THAT(refusal(file()), HasSubstr("tensor 'e.weight' reaches 1 bytes beyond"));
}

TEST_F(Safetensors, AFileThatShrinksAfterOpeningIsFound) {
  std::filesystem::copy_file(made / "whole" / "model.safetensors", file());
  const auto files = TensorFiles::open_file(file());
  ASSERT_TRUE(files);
  std::filesystem::resize_file(file(), 400);
  std::vector<std::byte> bytes(60);
  const Status status = files->read("a.weight", 0, bytes);
  ASSERT_FALSE(status);
  EXPECT_THAT(one_line_error(status.error()), AllOf(HasSubstr("truncated"), HasSubstr("'a.weight'")));
}

TEST_F(Safetensors, HostileHeadersAreRefused) {
  const auto header = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  struct Case {
    std::string header;
    const char* says;
  };
  const std::vector<Case> cases{
      {header(R"("F32")", "[2]", "[0,8]"), "accepted"},
      {header(R"("F32")", "[2]", "[8,16]"), "accepted"},
      {header(R"("F32")", "[3]", "[0,8]"), "do not match F32 of shape [3]"},
      {header(R"("F32")", "[2]", "[8,0]"), "no range"},
      {header(R"("F32")", "[2]", "[0,8,16]"), "no range"},
      {header(R"("F32")", "[2]", "[-8,0]"), "no range"},
      {header(R"("F32")", "[2]", "[0.0,8.0]"), "no range"},
      {header(R"("F32")", "[2]", "[0,18446744073709551615]"), "no range"},
      {header(R"("F32")", "[2]", "[9223372036854775799,9223372036854775807]"), "beyond the file's end"},
      {header(R"("I64")", "[2]", "[0,9223372036854775807]"), "beyond the file's end"},
      {header(R"("F32")", "[-2]", "[0,8]"), "no short list of sizes"},
      {header(R"("F32")", "2", "[0,8]"), "no short list of sizes"},
      {header(R"("F32")", "[4611686018427387905,4]", "[0,16]"), "do not match"},  // 2^64 + 16 bytes
      {header("7", "[2]", "[0,8]"), "dtype is missing"},
      {R"({"w":3})", "no object"},
      {R"([1])", "no JSON object"},
      {"{\"w\n\x01\":{}}", "no JSON object"},
      {R"({"a\nb":{}})", "'a b'"},
      {"", "no JSON object"},
      {std::string(100000, '['), "no JSON object"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       "'a' and 'b' overlap"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}})",
       "'a' and 'b' overlap"},
  };
  for (const Case& c : cases) {
    write_header(c.header, 16);
    EXPECT_THAT(refusal(file()), HasSubstr(c.says)) << c.header.substr(0, 200);
  }
  for (const std::uint64_t size : {std::uint64_t{100'000'001}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    write_raw(std::string(reinterpret_cast<const char*>(&size), 8) + "{}");
    EXPECT_THAT(refusal(file()), HasSubstr("not a safetensors file: a header of"));
  }
}

TEST_F(Safetensors, OnlyRegularFilesAreRead) {
  ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
  EXPECT_THAT(refusal(file()), HasSubstr("is not a regular file"));
  EXPECT_FALSE(TensorFiles::open_file(folder_));
}

// Flipped bytes in the header never crash the reader; where it accepts, ranges lie in the file.
TEST_F(Safetensors, DamagedHeadersNeverLeadOutsideTheFile) {
  const std::string good = *read_text(made / "whole" / "model.safetensors");
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string bad = good;
    for (int flips = 0; flips < 3; ++flips) bad[random() % 360] = static_cast<char>(random());
    write_raw(bad);
    const auto files = TensorFiles::open_file(file());
    if (!files) {
      one_line_error(files.error());
      continue;
    }
    for (const auto& [name, entry] : files->tensors()) {
      ASSERT_GE(entry.offset, 8);
      ASSERT_LE(entry.offset + entry.bytes.value(), static_cast<std::int64_t>(good.size()));
    }
  }
}

}  // namespace
}  // namespace memo::store
