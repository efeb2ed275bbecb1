// The table itself, and functions that read and write each type of value.
#include "memo/job/keys.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <type_traits>

#include "memo/base/text.h"

namespace memo::job {
namespace {

const std::string not_set = "not set";

std::string quoted(const std::string& text) { return fmt::format("\"{}\"", text); }

std::string text_of(std::int64_t value) { return fmt::format("{}", value); }
std::string text_of(std::uint64_t value) { return fmt::format("{}", value); }
std::string text_of(int value) { return fmt::format("{}", value); }
std::string text_of(double value) { return fmt::format("{}", value); }
std::string text_of(bool value) { return value ? "true" : "false"; }
std::string text_of(const std::string& value) { return quoted(value); }
std::string text_of(const Path& value) { return quoted(value.string()); }
std::string text_of(Tokens value) { return text_of(value.value()); }
std::string text_of(Bytes value) { return text_of(value.value()); }
std::string text_of(Seconds value) { return text_of(value.value()); }
template <class T>
std::string text_of(const std::optional<T>& value) {
  return value ? text_of(*value) : not_set;
}
std::string text_of(const std::vector<Path>& values) {
  std::string text;
  for (const Path& value : values) text += (text.empty() ? "" : ", ") + text_of(value);
  return "[" + text + "]";
}

// `field` maps a Job, const or not, to the member that the key sets.
template <class Field>
auto text_by(Field field) {
  return [field](const Job& job) { return text_of(field(job)); };
}

template <class Field>
Key integer(std::string name, AtResume at_resume, std::int64_t least, Field field) {
  using Member = std::remove_reference_t<std::invoke_result_t<Field, Job&>>;
  const auto set = [=](const toml::node& node, Job& job) {
    const auto value = node.value_exact<std::int64_t>();
    if (!value || *value < least) return false;
    if (std::is_same_v<Member, int> && *value > std::numeric_limits<int>::max()) return false;
    field(job) = Member(*value);
    return true;
  };
  const auto text = [=](const Job& job) { return field(job) < Member(least) ? not_set : text_of(field(job)); };
  return {std::move(name), at_resume, fmt::format("an integer of at least {}", least), set, text};
}

// A number, or a word, which in the job is `meant`, a number below `least`.
template <class Field>
Key integer_or(std::string name, AtResume at_resume, const std::string& word, int meant, std::int64_t least,
               Field field) {
  Key key = integer(std::move(name), at_resume, least, field);
  key.expected = fmt::format("\"{}\" or {}", word, key.expected);
  key.set = [=, set = key.set](const toml::node& node, Job& job) {
    if (node.value_exact<std::string>() != word) return set(node, job);
    field(job) = std::remove_reference_t<decltype(field(job))>(meant);
    return true;
  };
  key.text = [word, text = key.text](const Job& job) {
    const std::string value = text(job);
    return value == not_set ? quoted(word) : value;
  };
  return key;
}

template <class Field>
Key number(std::string name, AtResume at_resume, std::string expected, bool (*allowed)(double), Field field) {
  const auto set = [=](const toml::node& node, Job& job) {
    if (!node.is_number()) return false;
    field(job) = *node.value<double>();
    return std::isfinite(field(job)) && allowed(field(job));
  };
  return {std::move(name), at_resume, std::move(expected), set, text_by(field)};
}

template <class Field>
Key seconds(std::string name, AtResume at_resume, Field field) {
  const auto set = [=](const toml::node& node, Job& job) {
    if (!node.is_number()) return false;
    const double value = *node.value<double>();
    field(job) = Seconds(value);
    return std::isfinite(value) && value > 0;
  };
  return {std::move(name), at_resume, "a number of seconds above 0", set, text_by(field)};
}

template <class Field>
Key size(std::string name, AtResume at_resume, Field field) {
  const auto set = [=](const toml::node& node, Job& job) {
    const std::string text =
        node.is_integer() ? std::to_string(*node.value<std::int64_t>()) : node.value_or(std::string("?"));
    const Result<Bytes> bytes = parse_bytes(text);
    if (bytes) field(job) = *bytes;
    return bytes.has_value();
  };
  return {std::move(name), at_resume, "a size such as \"512MiB\" or \"0\"", set, text_by(field)};
}

// A path; a relative one is relative to the job's folder.
Path beside(const Job& job, const std::string& path) { return job.file.parent_path() / path; }

template <class Field>
Key path(std::string name, AtResume at_resume, std::string expected, Field field) {
  const auto set = [=](const toml::node& node, Job& job) {
    const auto text = node.value_exact<std::string>();
    if (text && !text->empty()) field(job) = beside(job, *text);
    return text && !text->empty();
  };
  return {std::move(name), at_resume, std::move(expected), set, text_by(field)};
}

template <class Value>
struct Choice {
  std::string name;
  Value value;
};

template <class Value, class Field>
Key one_of(std::string name, AtResume at_resume, std::string expected, std::vector<Choice<Value>> choices,
           Field field) {
  const auto set = [=](const toml::node& node, Job& job) {
    for (const Choice<Value>& choice : choices) {
      if (node.value_exact<std::string>() != choice.name) continue;
      field(job) = choice.value;
      return true;
    }
    return false;
  };
  const auto text = [=](const Job& job) {
    for (const Choice<Value>& choice : choices)
      if (field(job) == choice.value) return quoted(choice.name);
    return not_set;
  };
  return {std::move(name), at_resume, std::move(expected), set, text};
}

template <class Field>
Key word(std::string name, AtResume at_resume, std::string expected, Field field) {
  const auto set = [=](const toml::node& node, Job& job) {
    field(job) = node.value_or(std::string());
    return node.is_string() && !field(job).empty();
  };
  return {std::move(name), at_resume, std::move(expected), set, text_by(field)};
}

template <class Field>
Key yes_or_no(std::string name, AtResume at_resume, Field field) {
  const auto set = [=](const toml::node& node, Job& job) {
    const auto value = node.value_exact<bool>();
    if (value) field(job) = *value;
    return value.has_value();
  };
  return {std::move(name), at_resume, "true or false", set, text_by(field)};
}

template <class Field>
Key files(std::string name, AtResume at_resume, Field field) {
  const auto set = [=](const toml::node& node, Job& job) {
    const toml::array* list = node.as_array();
    if (list == nullptr || list->empty() || !list->is_homogeneous(toml::node_type::string)) return false;
    field(job).clear();
    for (const toml::node& item : *list) field(job).push_back(beside(job, item.value_or(std::string())));
    return true;
  };
  return {std::move(name), at_resume, "a list of one or more file names", set, text_by(field)};
}

}  // namespace

#define MEMO_FIELD(member) \
  [](auto& job) -> auto& { return job.member; }

const std::vector<Key>& keys() {
  static const auto positive = [](double x) { return x > 0; };
  static const auto not_negative = [](double x) { return x >= 0; };
  static const auto below_one = [](double x) { return x >= 0 && x < 1; };
  static const auto fraction = [](double x) { return x >= 0 && x <= 1; };
  using enum AtResume;
  static const std::vector<Key> all{
      integer("seed", same, 0, MEMO_FIELD(seed)),
      path("model.path", content, "the path of a Hugging Face model folder", MEMO_FIELD(model.path)),
      word("model.family", content, "the name of a model family, such as \"llama\"", MEMO_FIELD(model.family)),
      integer("model.hidden", content, 1, MEMO_FIELD(model.hidden)),
      integer("model.layers", content, 1, MEMO_FIELD(model.layers)),
      integer("model.heads", content, 1, MEMO_FIELD(model.heads)),
      integer("model.kv_heads", content, 1, MEMO_FIELD(model.kv_heads)),
      integer("model.head_dim", content, 1, MEMO_FIELD(model.head_dim)),
      integer("model.ffn", content, 1, MEMO_FIELD(model.ffn)),
      integer("model.vocab", content, 1, MEMO_FIELD(model.vocab)),
      yes_or_no("model.tied", content, MEMO_FIELD(model.tied)),
      one_of<DType>("model.dtype", same, "\"float32\" or \"bfloat16\"",
                    {{"float32", DType::float32}, {"bfloat16", DType::bfloat16}}, MEMO_FIELD(model.dtype)),
      files("data.files", content, MEMO_FIELD(data.files)),
      path("data.tokenizer", content, "the path of a tokenizer.json", MEMO_FIELD(data.tokenizer)),
      one_of<std::string>("data.bin_dtype", content, "\"uint16\" or \"uint32\"",
                          {{"uint16", "uint16"}, {"uint32", "uint32"}}, MEMO_FIELD(data.bin_dtype)),
      one_of<bool>("data.documents", same, "\"joined\" or \"apart\"", {{"joined", false}, {"apart", true}},
                   MEMO_FIELD(data.documents_apart)),
      integer("data.end_token", same, 0, MEMO_FIELD(data.end_token)),
      integer("train.context", same, 2, MEMO_FIELD(train.context)),
      integer_or("train.block", rounding, "auto", 0, 16, MEMO_FIELD(train.block)),
      integer_or("train.head_groups", rounding, "auto", 0, 1, MEMO_FIELD(train.head_groups)),
      word("train.attention", rounding, "\"auto\" or a kernel's name, such as \"flash2\"", MEMO_FIELD(train.attention)),
      integer_or("train.loss_tile", rounding, "auto", 0, 1, MEMO_FIELD(train.loss_tile)),
      integer("train.batch", same, 1, MEMO_FIELD(train.batch)),
      integer("train.steps", course, 1, MEMO_FIELD(train.steps)),
      number("train.lr", course, "a number above 0", positive, MEMO_FIELD(train.lr)),
      number("train.min_lr_ratio", course, "a number from 0 to 1", fraction, MEMO_FIELD(train.min_lr_ratio)),
      integer("train.warmup_steps", course, 0, MEMO_FIELD(train.warmup_steps)),
      number("train.beta1", course, "a number from 0 to below 1", below_one, MEMO_FIELD(train.beta1)),
      number("train.beta2", course, "a number from 0 to below 1", below_one, MEMO_FIELD(train.beta2)),
      number("train.eps", course, "a number above 0", positive, MEMO_FIELD(train.eps)),
      number("train.weight_decay", course, "a number of at least 0", not_negative, MEMO_FIELD(train.weight_decay)),
      number("train.clip", course, "a number of at least 0", not_negative, MEMO_FIELD(train.clip)),
      one_of<NotFinite>("train.not_finite", course, "\"stop\" or \"skip\"",
                        {{"stop", NotFinite::stop}, {"skip", NotFinite::skip}}, MEMO_FIELD(train.not_finite)),
      integer_or("train.checkpoint_every", free, "never", no_checkpoint, 0, MEMO_FIELD(train.checkpoint_every)),
      integer("train.keep_checkpoints", free, 0, MEMO_FIELD(train.keep_checkpoints)),
      one_of<std::string>("memory.device", rounding, "\"auto\", \"cpu\" or \"cuda\"",
                          {{"auto", "auto"}, {"cpu", "cpu"}, {"cuda", "cuda"}}, MEMO_FIELD(memory.device)),
      size("memory.device_limit", free, MEMO_FIELD(memory.device_limit)),
      size("memory.host_limit", free, MEMO_FIELD(memory.host_limit)),
      path("memory.disk", free, "the path of a folder", MEMO_FIELD(memory.disk)),
      size("memory.disk_limit", free, MEMO_FIELD(memory.disk_limit)),
      integer("memory.slots", free, 0, MEMO_FIELD(memory.slots)),
      one_of<Checksums>("memory.checksums", free, "\"none\", \"disk\" or \"all\"",
                        {{"none", Checksums::none}, {"disk", Checksums::disk}, {"all", Checksums::all}},
                        MEMO_FIELD(memory.checksums)),
      yes_or_no("memory.encrypt", free, MEMO_FIELD(memory.encrypt)),
      yes_or_no("memory.core_dumps", free, MEMO_FIELD(memory.core_dumps)),
      seconds("memory.watchdog", free, MEMO_FIELD(memory.watchdog)),
  };
  return all;
}

#undef MEMO_FIELD

}  // namespace memo::job
