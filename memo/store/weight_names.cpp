// Maps stored names to the class's names.
#include "memo/store/weight_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "memo/base/text.h"

namespace memo::store {
namespace {

constexpr std::string_view head = "lm_head.weight";

std::string in_quotes(const std::string& name) { return fmt::format("'{}'", one_line(name.substr(0, 200))); }

// Removes wrappers' module names anywhere in a name: no family has modules of these names.
std::string without_wrappers(const std::string& name) {
  static constexpr std::array<std::string_view, 4> wrappers{"_orig_mod", "module", "_fsdp_wrapped_module",
                                                            "_checkpoint_wrapped_module"};
  std::string result;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = std::string_view(name).substr(begin, end - begin);
    if (std::find(wrappers.begin(), wrappers.end(), part) == wrappers.end())
      result.append(result.empty() ? "" : ".").append(part);
    begin = end + 1;
  }
  return result;
}

// Tables that older versions of transformers saved, though config.json determines them.
bool is_table(const std::string& name) {
  return std::ranges::any_of(std::array{"attn.bias", "attn.masked_bias", "rotary_emb.inv_freq"},
                             [&](const char* suffix) { return name.ends_with(suffix); });
}

Result<bool> same_bytes(const TensorFiles& files, const std::string& a, const std::string& b) {
  MEMO_TRY(const TensorEntry* of_a, files.find(a));
  MEMO_TRY(const TensorEntry* of_b, files.find(b));
  if (of_a->shape != of_b->shape || of_a->dtype_name != of_b->dtype_name) return false;
  constexpr std::int64_t piece = std::int64_t{16} << 20;
  const std::int64_t size = of_a->bytes.value();
  std::vector<std::byte> one(static_cast<std::size_t>(std::min(piece, size))), other(one.size());
  for (std::int64_t at = 0; at < size; at += piece) {
    const auto count = static_cast<std::size_t>(std::min(piece, size - at));
    MEMO_CHECKED(files.read(a, at, std::span(one).first(count)));
    MEMO_CHECKED(files.read(b, at, std::span(other).first(count)));
    if (!std::equal(one.begin(), one.begin() + static_cast<std::ptrdiff_t>(count), other.begin())) return false;
  }
  return true;
}

}  // namespace

Result<WeightNames> weight_names(const TensorFiles& files, const std::vector<model::ParameterSpec>& specs) {
  const auto two_names = [&](const std::string& a, const std::string& b) {
    return bad_input(fmt::format("{}: tensors {} and {} are both there, two names of one; remove one of them",
                                 files.where().string(), in_quotes(a), in_quotes(b)));
  };
  std::map<std::string, std::string> there;  // stored name by the name without wrappers
  for (const auto& [name, entry] : files.tensors())
    if (const auto [at, fresh] = there.emplace(without_wrappers(name), name); !fresh)
      return two_names(at->second, name);

  std::vector<std::string> wanted;
  for (const model::ParameterSpec& spec : specs)
    for (const model::ParameterPart& part : spec.parts)
      if (std::find(wanted.begin(), wanted.end(), part.name) == wanted.end()) wanted.push_back(part.name);
  const std::string& embedding = wanted.front();
  const std::string above_base = embedding.substr(0, embedding.find('.') + 1);  // "model.", "transformer."
  const auto below = [&](const std::string& name) {
    return name.starts_with(above_base) ? name.substr(above_base.size()) : name;
  };
  const bool of_base = std::ranges::none_of(
      wanted, [&](const std::string& name) { return name.starts_with(above_base) && there.contains(name); });

  WeightNames names;
  std::set<std::string> used;
  for (const std::string& name : wanted) {
    const auto other = there.find(of_base ? name : below(name)), found = there.find(of_base ? below(name) : name);
    if (found == there.end()) continue;
    if (other != there.end() && other != found) return two_names(found->second, other->second);
    names.stored.emplace(name, found->second);
    used.insert(found->first);
  }
  const bool tied = std::find(wanted.begin(), wanted.end(), head) == wanted.end();
  if (const auto found = there.find(std::string(head)); tied && found != there.end()) {
    used.insert(found->first);
    const auto [at, alone] = names.stored.emplace(embedding, found->second);
    if (!alone) {
      MEMO_TRY(const bool same, same_bytes(files, at->second, found->second));
      if (!same)
        return bad_input(
            fmt::format("{}: tensors {} and {} differ, but config.json ties them; set tie_word_embeddings to false "
                        "there",
                        files.where().string(), in_quotes(at->second), in_quotes(found->second)));
    }
  }
  for (const auto& [plain, name] : there)
    if (!used.contains(plain) && !is_table(plain)) names.left_out.push_back(name);
  return names;
}

}  // namespace memo::store
