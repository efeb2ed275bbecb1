// Compares the keys, model and data of a checkpoint with those of the job, and words the differences.
#include "memo/libtorch/train/job_identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "memo/base/json.h"
#include "memo/base/text.h"
namespace memo::libtorch {
namespace {

using job::AtResume;

// The job's key for a size that config.json names differently.
std::string key_of(const std::string& config_key) {
  static const std::map<std::string, std::string> names{{"model_type", "model.family"},
                                                        {"hidden_size", "model.hidden"},
                                                        {"num_hidden_layers", "model.layers"},
                                                        {"num_attention_heads", "model.heads"},
                                                        {"head_dim", "model.head_dim"},
                                                        {"num_key_value_heads", "model.kv_heads"},
                                                        {"intermediate_size", "model.ffn"},
                                                        {"vocab_size", "model.vocab"},
                                                        {"n_positions", "train.context"},
                                                        {"max_position_embeddings", "train.context"},
                                                        {"n_embd", "model.hidden"},
                                                        {"n_layer", "model.layers"},
                                                        {"n_head", "model.heads"},
                                                        {"n_inner", "model.ffn"},
                                                        {"tie_word_embeddings", "model.tied"}};
  const auto found = names.find(config_key);
  return found == names.end() ? config_key : found->second;
}

// A tokenizer is identified by its file's name and content, wherever the file lies.
std::string tokenizer_text(const std::optional<Path>& file) {
  if (!file) return "not set";
  const Result<std::string> text = read_text(*file);
  return fmt::format("{} (checksum {})", file->filename().string(),
                     text ? hex16(fnv1a(text->data(), text->size())) : "unknown");
}

std::string dump(const nlohmann::json& config, const std::string& key) {
  return config.contains(key) ? json_text(config.at(key)) : "not set";
}

}  // namespace

JobIdentity::JobIdentity(job::Job job, const plan::Plan& plan, const Device& device, const model::Shape& shape,
                         const corpus::Dataset& data)
    : job_(std::move(job)), shape_(shape), data_(data) {
  job_.train.block = plan.profile.flow.block;
  job_.train.head_groups = plan.profile.flow.groups;
  job_.train.attention = plan.profile.attention;
  job_.train.loss_tile = plan.profile.loss_tile;
  job_.memory.device = device.of_tensors().is_cpu() ? "cpu" : "cuda";
  for (job::KeyValue& key : key_values(job_)) {
    if (key.name == "data.tokenizer") key.value = tokenizer_text(job_.data.tokenizer);
    // Checked by config.json, by files_.
    const bool is_elsewhere = key.name.starts_with("model.") || key.name == "data.files";
    if (key.at_resume != AtResume::free && !(key.at_resume == AtResume::content && is_elsewhere))
      keys_.push_back(std::move(key));
  }
  const std::vector<corpus::Dataset::Sum> sums = data.sums();
  for (std::size_t i = 0; i < sums.size(); ++i)
    files_.push_back({job_.data.files[i].filename().string(), sums[i].tokens, hex16(sums[i].hash)});
}

void JobIdentity::write(store::CheckpointState& about) const {
  for (const job::KeyValue& key : keys_) about.keys[key.name] = key.value;
  about.data = files_;
}

std::vector<JobIdentity::Change> JobIdentity::key_changes(const store::CheckpointState& about) const {
  std::vector<Change> changes;
  for (const job::KeyValue& key : keys_) {
    const auto before = about.keys.find(key.name);  // missing where the checkpoint is older than the key
    if (before != about.keys.end() && before->second != key.value)
      changes.push_back({key.name, before->second, key.value, place_of(job_, key.name), key.at_resume});
  }
  return changes;
}

Result<std::vector<JobIdentity::Change>> JobIdentity::model_changes(const Path& folder) const {
  std::vector<Change> changes;
  MEMO_TRY(const model::Shape then, model::read_config(folder));
  if (then == shape_) return changes;
  MEMO_TRY(const std::string before_text, model::config_text(then, job_.model.dtype));
  MEMO_TRY(const std::string now_text, model::config_text(shape_, job_.model.dtype));
  const auto before = json_of(before_text), now = json_of(now_text);
  nlohmann::json all = before;
  all.update(now);
  for (const auto& [name, value] : all.items()) {
    if (dump(before, name) == dump(now, name)) continue;
    const std::string key = job_.model.path ? name : key_of(name);
    const std::string place = job_.model.path ? (*job_.model.path / "config.json").string() : place_of(job_, key);
    changes.push_back({key, dump(before, name), dump(now, name), place, AtResume::same});
  }
  return changes;
}

std::vector<JobIdentity::Change> JobIdentity::data_changes(const store::CheckpointState& about) const {
  std::vector<Change> changes;
  const auto add = [&](std::string before, std::string now) {
    changes.push_back({"data.files", std::move(before), std::move(now), place_of(job_, "data.files"), AtResume::same});
  };
  const auto told = [](const store::DataFile& file) {
    return fmt::format("{} tokens of {} (checksum {})", file.tokens, file.name, file.hash);
  };
  if (about.data.size() != files_.size())
    add(fmt::format("{} file(s)", about.data.size()), fmt::format("{} file(s)", files_.size()));
  for (std::size_t i = 0; i < std::min(about.data.size(), files_.size()); ++i) {
    const store::DataFile &before = about.data[i], &now = files_[i];
    if (before.tokens != now.tokens || before.hash != now.hash) add(told(before), told(now));
  }
  return changes;
}

Status JobIdentity::check(const store::CheckpointState& about, const Path& folder, const Note& note) const {
  const bool keeps_keys = about.job_digest.empty();
  const std::vector<Change> keys = key_changes(about);
  const std::vector<Change> data = keeps_keys ? data_changes(about) : std::vector<Change>();
  MEMO_TRY(const std::vector<Change> model, model_changes(folder));
  std::vector<Change> others;  // changes that make it another job
  for (const Change& change : keys) {
    const bool tells_why = change.at_resume == AtResume::content && !data.empty();
    if (change.at_resume == AtResume::same || tells_why) others.push_back(change);
  }
  for (const Change& change : model)  // the context may be in both
    if (std::ranges::find(others, change.key, &Change::key) == others.end()) others.push_back(change);
  others.insert(others.end(), data.begin(), data.end());
  if (!keeps_keys && about.seed != job_.seed)
    others.push_back(
        {"seed", fmt::format("{}", about.seed), fmt::format("{}", job_.seed), place_of(job_, "seed"), AtResume::same});

  std::string text;
  for (const Change& change : others)
    text += fmt::format("{}{} was {}, and is {} ({})", text.empty() ? "" : "; ", change.key, change.before, change.now,
                        change.place);
  if (others.empty() && !keeps_keys) {
    MEMO_TRY(const std::string now, digest());
    if (now != about.job_digest) text = "model.dtype, train.context, train.batch or the data differ";
  }
  if (!text.empty())
    return bad_input(fmt::format("{}: the run is of another job: {}; set it back, or name another run folder",
                                 (folder / "state.json").string(), text));

  for (const Change& change : keys) {
    if (change.at_resume == AtResume::course)
      note(fmt::format("{} was {} up to step {}, and is {} from here on ({})", change.key, change.before, about.step,
                       change.now, change.place));
    if (change.at_resume == AtResume::rounding)
      note(
          fmt::format("{} was {} up to step {}, and is {} from here on: sums are taken in another order, and the last "
                      "bits of losses may differ",
                      change.key, change.before, about.step, change.now));
  }
  return {};
}

// The digest of checkpoints from before they kept keys: over the model's config, the number of tokens, and the first
// and last tokens.
Result<std::string> JobIdentity::digest() const {
  MEMO_TRY(std::string text, model::config_text(shape_, job_.model.dtype));
  text += fmt::format("|{}|{}|{}", static_cast<int>(job_.model.dtype), job_.seed, job_.train.context.value());
  if (job_.train.batch > 1) text += fmt::format("|{} sequences", job_.train.batch);
  const std::int64_t tokens = data_.tokens(), some = job_.train.context.value();
  text += fmt::format("|{}", tokens);
  for (const std::int64_t first : {std::int64_t{0}, tokens - some}) {
    const std::vector<std::int64_t> window = data_.window(first, some);
    text += "|" + hex16(fnv1a(window.data(), window.size() * sizeof(std::int64_t)));
  }
  return hex16(fnv1a(text.data(), text.size()));
}

}  // namespace memo::libtorch
