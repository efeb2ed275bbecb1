// Reads job.toml by the table of its keys.
#include "memo/job/job.h"

#include <fmt/format.h>

#include "memo/base/text.h"
#include "memo/base/toml_text.h"
#include "memo/job/keys.h"

namespace memo::job {
namespace {

std::string describe(const toml::node& node) {
  if (const auto* text = node.as_string()) return fmt::format("the string \"{}\"", text->get());
  if (const auto* value = node.as_integer()) return fmt::format("the integer {}", value->get());
  if (const auto* value = node.as_floating_point()) return fmt::format("the number {}", value->get());
  if (const auto* value = node.as_boolean()) return value->get() ? "true" : "false";
  if (node.is_array()) return "a list";
  return node.is_table() ? "a table" : "a date or time";
}

class Reader {
 public:
  explicit Reader(Job& job) : job_(job) {}

  Status file(const toml::table& table, const std::string& prefix = "") {
    for (const auto& [key, node] : table) {
      const std::string place = fmt::format("{}:{}", job_.file.string(), key.source().begin.line);
      MEMO_CHECKED(entry(prefix + std::string(key.str()), node, place));
    }
    return {};
  }

  // A value of `--set` as TOML; text that is not TOML becomes a string (block=auto, disk=/var/tmp).
  Status override(const std::string& text) {
    const std::string place = "--set " + text;
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos)
      return bad_input(fmt::format("{}: write key=value, for example --set train.steps=5", place));
    const std::string name = text.substr(0, equals), value = text.substr(equals + 1);
    if (is_section(name))
      return bad_input(fmt::format("{}: '{}' is a table; set its keys, for example --set train.steps=5", place, name));
    try {
      const std::string line = "value = " + value;
      const toml::table parsed = stray_character(line) ? toml::table() : toml::parse(line);
      if (parsed.size() == 1) return entry(name, *parsed.get("value"), place);
    } catch (const toml::parse_error&) {
    }
    return entry(name, toml::value<std::string>(value), place);
  }

  // Checks that need the whole job: missing keys, and keys that contradict each other.
  [[nodiscard]] Status whole() const {
    const std::string file = job_.file.string();
    const auto has = [&](const char* key) { return job_.places.contains(key); };
    if (!has("train.context"))
      return bad_input(fmt::format("{}: 'train.context' is missing; add 'context = 16384' under [train]", file));
    static constexpr const char* required[] = {"model.hidden", "model.layers", "model.heads", "model.ffn",
                                               "model.vocab"};
    for (const char* key : required) {
      if (has("model.path") || has(key)) continue;
      return bad_input(fmt::format("{}: '{}' is missing; give it, or 'model.path' instead of a shape", file, key));
    }
    static constexpr const char* sizes[] = {"model.family", "model.hidden",   "model.layers",
                                            "model.heads",  "model.kv_heads", "model.head_dim",
                                            "model.ffn",    "model.vocab",    "model.tied"};
    for (const char* key : sizes) {
      if (!has("model.path") || !has(key)) continue;
      return bad_input(
          fmt::format("{}: '{}' is set, but config.json in 'model.path' says it; remove one of the two", file, key));
    }
    return {};
  }

 private:
  static bool is_section(const std::string& name) {
    return name == "model" || name == "data" || name == "train" || name == "memory";
  }

  Status entry(const std::string& name, const toml::node& node, const std::string& place) {
    if (is_section(name)) {
      if (node.is_table()) return file(*node.as_table(), name + ".");
      return bad_input(fmt::format("{}: '{}' must be a table, found {}", place, name, describe(node)));
    }
    for (const Key& key : keys()) {
      if (key.name != name) continue;
      if (!key.set(node, job_))
        return bad_input(fmt::format("{}: '{}' must be {}, found {}", place, name, key.expected, describe(node)));
      job_.places[name] = place;
      return {};
    }
    std::vector<std::string> known;
    for (const Key& key : keys()) known.push_back(key.name);
    const std::string near = nearest_name(name, known);
    return bad_input(fmt::format("{}: key '{}' is unknown{}", place, name,
                                 near.empty() ? "; remove it" : fmt::format(" (did you mean '{}'?)", near)));
  }

  Job& job_;
};

}  // namespace

std::vector<KeyValue> key_values(const Job& job) {
  std::vector<KeyValue> values;
  for (const Key& key : keys()) values.push_back({key.name, key.text(job), key.at_resume});
  return values;
}

Job as_before(Job job, const std::map<std::string, std::string>& keys) {
  for (const KeyValue& key : key_values(job)) {
    const auto before = keys.find(key.name);
    if (key.at_resume != AtResume::rounding || !key.name.starts_with("train.") || key.value != "\"auto\"" ||
        before == keys.end())
      continue;
    Job with = job;
    if (!Reader(with).override(key.name + "=" + before->second)) continue;
    with.places[key.name] = "as before";
    job = std::move(with);
  }
  return job;
}

std::string place_of(const Job& job, const std::string& key) {
  const auto found = job.places.find(key);
  return found == job.places.end() ? job.file.string() + ", by default" : found->second;
}

Result<Job> read_job(const Path& file, const std::vector<std::string>& overrides) {
  MEMO_TRY(const std::string text, read_text(file));
  Job job;
  job.file = file;
  Reader reader(job);
  if (const auto stray = stray_character(text))
    return bad_input(fmt::format("{}:{}: {}", file.string(), stray->line, stray->what));
  try {
    MEMO_CHECKED(reader.file(toml::parse(text)));
  } catch (const toml::parse_error& error) {
    return bad_input(fmt::format("{}:{}: {}", file.string(), error.source().begin.line, error.description()));
  }
  for (const std::string& assignment : overrides) MEMO_CHECKED(reader.override(assignment));
  MEMO_CHECKED(reader.whole());
  return job;
}

}  // namespace memo::job
