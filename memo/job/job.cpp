// Reads job.toml. One table says every key: its name, what it expects, where its value goes.
#include "memo/job/job.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <type_traits>

#include "memo/base/text.h"
#include "memo/base/toml_text.h"

namespace memo::job {
namespace {

struct Key {
  std::string name;                                  // dotted
  std::string expected;                              // completes "must be ..."
  std::function<bool(const toml::node&, Job&)> set;  // false: wrong type or out of range
};

// `field` maps a Job to the member that the key sets.
template <class Field>
Key integer(std::string name, std::int64_t least, Field field) {
  using Member = std::remove_reference_t<std::invoke_result_t<Field, Job&>>;
  return {std::move(name), fmt::format("an integer of at least {}", least), [=](const toml::node& node, Job& job) {
            const auto value = node.value_exact<std::int64_t>();
            if (!value || *value < least) return false;
            if (std::is_same_v<Member, int> && *value > std::numeric_limits<int>::max()) return false;
            field(job) = Member(*value);
            return true;
          }};
}

// "auto" is 0 in the job.
template <class Field>
Key integer_or_auto(std::string name, std::int64_t least, Field field) {
  Key key = integer(std::move(name), least, field);
  key.expected = fmt::format("\"auto\" or {}", key.expected);
  key.set = [field, set = key.set](const toml::node& node, Job& job) {
    if (node.value_exact<std::string>() != "auto") return set(node, job);
    field(job) = std::remove_reference_t<decltype(field(job))>(0);
    return true;
  };
  return key;
}

template <class Field>
Key number(std::string name, std::string expected, bool (*allowed)(double), Field field) {
  return {std::move(name), std::move(expected), [=](const toml::node& node, Job& job) {
            if (!node.is_number()) return false;
            field(job) = *node.value<double>();
            return std::isfinite(field(job)) && allowed(field(job));
          }};
}

template <class Field>
Key seconds(std::string name, Field field) {
  return {std::move(name), "a number of seconds above 0", [=](const toml::node& node, Job& job) {
            if (!node.is_number()) return false;
            const double value = *node.value<double>();
            field(job) = Seconds(value);
            return std::isfinite(value) && value > 0;
          }};
}

template <class Field>
Key size(std::string name, Field field) {
  return {std::move(name), "a size such as \"512MiB\" or \"0\"", [=](const toml::node& node, Job& job) {
            const std::string text =
                node.is_integer() ? std::to_string(*node.value<std::int64_t>()) : node.value_or(std::string("?"));
            const Result<Bytes> bytes = parse_bytes(text);
            if (bytes) field(job) = *bytes;
            return bytes.has_value();
          }};
}

// A relative path is taken from the job's folder.
Path beside(const Job& job, const std::string& path) { return job.file.parent_path() / path; }

template <class Field>
Key path(std::string name, std::string expected, Field field) {
  return {std::move(name), std::move(expected), [=](const toml::node& node, Job& job) {
            const auto text = node.value_exact<std::string>();
            if (text && !text->empty()) field(job) = beside(job, *text);
            return text && !text->empty();
          }};
}

template <class Value>
struct Choice {
  std::string name;
  Value value;
};

template <class Value, class Field>
Key one_of(std::string name, std::string expected, std::vector<Choice<Value>> choices, Field field) {
  return {std::move(name), std::move(expected), [=](const toml::node& node, Job& job) {
            for (const Choice<Value>& choice : choices) {
              if (node.value_exact<std::string>() != choice.name) continue;
              field(job) = choice.value;
              return true;
            }
            return false;
          }};
}

Key family(std::string name) {
  return {std::move(name), "the name of a model family, such as \"llama\"", [](const toml::node& node, Job& job) {
            job.model.family = node.value_or(std::string());
            return node.is_string() && !job.model.family.empty();
          }};
}

template <class Field>
Key yes_or_no(std::string name, Field field) {
  return {std::move(name), "true or false", [=](const toml::node& node, Job& job) {
            const auto value = node.value_exact<bool>();
            if (value) field(job) = *value;
            return value.has_value();
          }};
}

Key files(std::string name) {
  return {std::move(name), "a list of one or more file names", [](const toml::node& node, Job& job) {
            const toml::array* list = node.as_array();
            if (list == nullptr || list->empty() || !list->is_homogeneous(toml::node_type::string)) return false;
            job.data.files.clear();
            for (const toml::node& item : *list) job.data.files.push_back(beside(job, item.value_or(std::string())));
            return true;
          }};
}

#define MEMO_FIELD(member) \
  [](Job & job) -> auto& { return job.member; }

const std::vector<Key>& keys() {
  static const auto positive = [](double x) { return x > 0; };
  static const auto not_negative = [](double x) { return x >= 0; };
  static const auto below_one = [](double x) { return x >= 0 && x < 1; };
  static const auto fraction = [](double x) { return x >= 0 && x <= 1; };
  static const std::vector<Key> all{
      integer("seed", 0, MEMO_FIELD(seed)),
      path("model.path", "the path of a Hugging Face model folder", MEMO_FIELD(model.path)),
      family("model.family"),
      integer("model.hidden", 1, MEMO_FIELD(model.hidden)),
      integer("model.layers", 1, MEMO_FIELD(model.layers)),
      integer("model.heads", 1, MEMO_FIELD(model.heads)),
      integer("model.kv_heads", 1, MEMO_FIELD(model.kv_heads)),
      integer("model.head_dim", 1, MEMO_FIELD(model.head_dim)),
      integer("model.ffn", 1, MEMO_FIELD(model.ffn)),
      integer("model.vocab", 1, MEMO_FIELD(model.vocab)),
      yes_or_no("model.tied", MEMO_FIELD(model.tied)),
      one_of<DType>("model.dtype", "\"float32\" or \"bfloat16\"",
                    {{"float32", DType::float32}, {"bfloat16", DType::bfloat16}}, MEMO_FIELD(model.dtype)),
      files("data.files"),
      path("data.tokenizer", "the path of a tokenizer.json", MEMO_FIELD(data.tokenizer)),
      one_of<std::string>("data.bin_dtype", "\"uint16\" or \"uint32\"", {{"uint16", "uint16"}, {"uint32", "uint32"}},
                          MEMO_FIELD(data.bin_dtype)),
      one_of<bool>("data.documents", "\"joined\" or \"apart\"", {{"joined", false}, {"apart", true}},
                   MEMO_FIELD(data.documents_apart)),
      integer("data.end_token", 0, MEMO_FIELD(data.end_token)),
      integer("train.context", 2, MEMO_FIELD(train.context)),
      integer_or_auto("train.block", 16, MEMO_FIELD(train.block)),
      integer_or_auto("train.head_groups", 1, MEMO_FIELD(train.head_groups)),
      integer("train.batch", 1, MEMO_FIELD(train.batch)),
      integer("train.steps", 1, MEMO_FIELD(train.steps)),
      number("train.lr", "a number above 0", positive, MEMO_FIELD(train.lr)),
      number("train.min_lr_ratio", "a number from 0 to 1", fraction, MEMO_FIELD(train.min_lr_ratio)),
      integer("train.warmup_steps", 0, MEMO_FIELD(train.warmup_steps)),
      number("train.beta1", "a number from 0 to below 1", below_one, MEMO_FIELD(train.beta1)),
      number("train.beta2", "a number from 0 to below 1", below_one, MEMO_FIELD(train.beta2)),
      number("train.eps", "a number above 0", positive, MEMO_FIELD(train.eps)),
      number("train.weight_decay", "a number of at least 0", not_negative, MEMO_FIELD(train.weight_decay)),
      number("train.clip", "a number of at least 0", not_negative, MEMO_FIELD(train.clip)),
      one_of<NotFinite>("train.not_finite", "\"stop\" or \"skip\"",
                        {{"stop", NotFinite::stop}, {"skip", NotFinite::skip}}, MEMO_FIELD(train.not_finite)),
      integer("train.checkpoint_every", 0, MEMO_FIELD(train.checkpoint_every)),
      integer("train.keep_checkpoints", 0, MEMO_FIELD(train.keep_checkpoints)),
      one_of<std::string>("memory.device", "\"auto\", \"cpu\" or \"cuda\"",
                          {{"auto", "auto"}, {"cpu", "cpu"}, {"cuda", "cuda"}}, MEMO_FIELD(memory.device)),
      size("memory.device_limit", MEMO_FIELD(memory.device_limit)),
      size("memory.host_limit", MEMO_FIELD(memory.host_limit)),
      path("memory.disk", "the path of a folder", MEMO_FIELD(memory.disk)),
      size("memory.disk_limit", MEMO_FIELD(memory.disk_limit)),
      integer("memory.slots", 0, MEMO_FIELD(memory.slots)),
      one_of<Checksums>("memory.checksums", "\"none\", \"disk\" or \"all\"",
                        {{"none", Checksums::none}, {"disk", Checksums::disk}, {"all", Checksums::all}},
                        MEMO_FIELD(memory.checksums)),
      yes_or_no("memory.encrypt", MEMO_FIELD(memory.encrypt)),
      yes_or_no("memory.core_dumps", MEMO_FIELD(memory.core_dumps)),
      seconds("memory.watchdog", MEMO_FIELD(memory.watchdog)),
  };
  return all;
}

#undef MEMO_FIELD

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

  // `--set`: the value as TOML; what is not TOML is a bare string (block=auto, disk=/var/tmp).
  Status override(const std::string& text) {
    const std::string place = "--set " + text;
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos)
      return bad_input(fmt::format("{}: write key=value, for example --set train.steps=5", place));
    const std::string name = text.substr(0, equals), value = text.substr(equals + 1);
    if (is_section(name))
      return bad_input(fmt::format("{}: '{}' is a table; set its keys, for example --set train.steps=5", place, name));
    try {
      const toml::table parsed = line_of_stray_character(value) ? toml::table() : toml::parse("value = " + value);
      if (parsed.size() == 1) return entry(name, *parsed.get("value"), place);
    } catch (const toml::parse_error&) {
    }
    return entry(name, toml::value<std::string>(value), place);
  }

  // What only the whole job can tell: keys that are missing, or that contradict each other.
  [[nodiscard]] Status whole() const {
    const std::string file = job_.file.string();
    const auto has = [&](const char* key) { return seen_.count(key) != 0; };
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
      seen_.insert(name);
      return {};
    }
    std::vector<std::string> known;
    for (const Key& key : keys()) known.push_back(key.name);
    const std::string near = nearest_name(name, known);
    return bad_input(fmt::format("{}: key '{}' is unknown{}", place, name,
                                 near.empty() ? "; remove it" : fmt::format(" (did you mean '{}'?)", near)));
  }

  Job& job_;
  std::set<std::string> seen_;
};

}  // namespace

Result<Job> read_job(const Path& file, const std::vector<std::string>& overrides) {
  MEMO_TRY(const std::string text, read_text(file));
  Job job;
  job.file = file;
  Reader reader(job);
  if (const auto line = line_of_stray_character(text))
    return bad_input(
        fmt::format("{}:{}: a control character, or one that is not ASCII outside of a string", file.string(), *line));
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
