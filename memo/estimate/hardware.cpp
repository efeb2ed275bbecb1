// Reads the tables of hardware.toml, and names mistakes by their keys.
#include "memo/estimate/hardware.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>

#include "memo/base/check.h"
#include "memo/base/text.h"
#include "memo/base/toml_text.h"
#include "memo/estimate/assets.h"

namespace memo::estimate {
namespace {

constexpr double tera = 1e12, giga = 1e9;

// Reads one table and remembers the first thing that is wrong with it.
class HardwareReader {
 public:
  HardwareReader(const toml::table& table, std::string where) : table_(table), where_(std::move(where)) {}

  double number(const char* key, std::optional<double> otherwise = {}) {
    seen_.push_back(key);
    const auto value = table_[key].value<double>();
    if (!table_.contains(key) && otherwise) return *otherwise;
    if (!value || !(*value > 0)) complain(fmt::format("{}: expected a number above 0", key));
    return value.value_or(0);
  }
  BytesPerSecond rate(const char* key) { return BytesPerSecond(number(key) * giga); }
  std::string text(const char* key, bool needed = true) {
    seen_.push_back(key);
    const auto value = table_[key].value<std::string>();
    if (!value && (needed || table_.contains(key))) complain(fmt::format("{}: expected a string", key));
    return value.value_or("");
  }
  Bytes bytes(const char* key) {
    const Result<Bytes> value = parse_bytes(text(key));
    if (!value) complain(fmt::format("{}: {}", key, value.error().message));
    return value.value_or(Bytes(0));
  }
  const toml::node_view<const toml::node> child(const char* key) {
    seen_.push_back(key);
    return table_[key];
  }
  void complain(const std::string& what) {
    if (error_.empty()) error_ = where_ + ": " + what;
  }
  // Call after all keys were asked for: the others are unknown.
  Status finish() {
    for (const auto& [key, value] : table_)
      if (std::ranges::find(seen_, key.str()) == seen_.end()) {
        complain(fmt::format("unknown key '{}'{}", key.str(), did_you_mean(key.str(), seen_)));
      }
    if (!error_.empty()) return bad_input(error_);
    return {};
  }

 private:
  const toml::table& table_;
  std::string where_, error_;
  std::vector<std::string> seen_;
};

Result<TierCopies> read_copies(const toml::table& table, const std::string& where) {
  HardwareReader reader(table, where);
  const TierCopies copies{reader.rate("write"), reader.rate("read"), reader.rate("write_with_read"),
                          reader.rate("read_with_write")};
  MEMO_CHECKED(reader.finish());
  return copies;
}

Result<AttentionRate> read_attention(const toml::table& table, const std::string& where) {
  HardwareReader reader(table, where + ": attention");
  const AttentionRate rate{reader.text("kernel"), reader.number("forward_tflops") * tera,
                           reader.number("backward_tflops") * tera, reader.number("half")};
  MEMO_CHECKED(reader.finish());
  return rate;
}

Result<Hardware> read_gpu(const toml::table& table, const std::string& file) {
  const std::string where = fmt::format("{}:{}", file, table.source().begin.line);
  HardwareReader reader(table, where);
  Hardware gpu;
  gpu.name = reader.text("name");
  gpu.peak = reader.number("peak_tflops") * tera;
  gpu.matmul = reader.number("matmul_tflops") * tera;
  gpu.peak_fp8 = reader.number("fp8_tflops", 0.0) * tera;
  gpu.memory = reader.bytes("memory");
  gpu.memory_rate = reader.rate("memory_rate");
  gpu.link = reader.rate("link");
  gpu.network = reader.rate("network");
  gpu.gpus_per_node = static_cast<int>(reader.number("gpus_per_node", 8.0));
  gpu.host_memory = reader.bytes("host_memory");
  gpu.source = reader.text("source", false);
  if (const toml::array* aliases = reader.child("aliases").as_array())
    for (const toml::node& alias : *aliases) gpu.aliases.push_back(alias.value_or(std::string()));
  if (const toml::table* host = reader.child("host").as_table()) {
    MEMO_TRY(gpu.host, read_copies(*host, where + ": host"));
  } else {
    reader.complain("host: expected a table of write, read, write_with_read and read_with_write");
  }
  if (const toml::table* disk = reader.child("disk").as_table()) {
    MEMO_TRY(gpu.disk, read_copies(*disk, where + ": disk"));
  }
  if (const toml::array* kernels = reader.child("attention").as_array())
    for (const toml::node& kernel : *kernels) {
      if (!kernel.is_table()) continue;
      MEMO_TRY(AttentionRate rate, read_attention(*kernel.as_table(), where));
      gpu.attention.push_back(std::move(rate));
    }
  if (gpu.attention.empty()) reader.complain("attention: expected a list of kernels");
  MEMO_CHECKED(reader.finish());
  return gpu;
}

Result<std::vector<Hardware>> parse(std::string_view text, const std::string& file) {
  toml::table table;
  if (const auto stray = stray_character(text))
    return bad_input(fmt::format("{}:{}: {}", file, stray->line, stray->what));
  try {
    table = toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    return bad_input(fmt::format("{}:{}: {}", file, error.source().begin.line, std::string(error.description())));
  }
  std::vector<Hardware> all;
  if (const toml::array* gpus = table["gpu"].as_array())
    for (const toml::node& node : *gpus)
      if (const toml::table* gpu = node.as_table()) {
        MEMO_TRY(Hardware hardware, read_gpu(*gpu, file));
        all.push_back(std::move(hardware));
      }
  if (all.empty()) return bad_input(file + ": no [[gpu]] in it");
  return all;
}

}  // namespace

const AttentionRate& Hardware::attention_of(const std::string& kernel) const {
  const auto found = std::ranges::find(attention, kernel, &AttentionRate::kernel);
  return found == attention.end() ? attention.front() : *found;
}

const std::vector<Hardware>& hardware_table() {
  static const std::vector<Hardware> table = [] {
    Result<std::vector<Hardware>> read = parse(assets::hardware, "hardware.toml");
    MEMO_CHECK(read.has_value(), "the built-in table of hardware is well-formed");
    return *std::move(read);
  }();
  return table;
}

Result<Hardware> find_hardware(const std::string& name, const std::vector<Hardware>& table) {
  std::vector<std::string> known;
  for (const Hardware& gpu : table) {
    if (lower_case(gpu.name) == lower_case(name)) return gpu;
    for (const std::string& alias : gpu.aliases)
      if (lower_case(alias) == lower_case(name)) return gpu;
    known.push_back(gpu.name);
  }
  return bad_input(
      fmt::format("unknown hardware '{}'{}; known: {}", name, did_you_mean(name, known), fmt::join(known, ", ")));
}

Result<std::vector<Hardware>> read_hardware(const Path& file) {
  MEMO_TRY(const std::string text, read_text(file));
  return parse(text, file.string());
}

Result<std::vector<Hardware>> known_hardware(const std::optional<std::string>& file) {
  std::vector<Hardware> all;
  if (file) {
    MEMO_TRY(all, read_hardware(*file));
  }
  all.insert(all.end(), hardware_table().begin(), hardware_table().end());
  return all;
}

}  // namespace memo::estimate
