// Looks for weights by names and first bytes of files.
#include "memo/store/model_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "memo/base/text.h"
#include "memo/store/folder.h"

namespace memo::store {
namespace {

namespace fs = std::filesystem;

// True for a dangling link too: opening it gives the error.
bool is_there(const Path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

// Whether a file is text, by its first bytes.
bool is_text(const Path& file) {
  std::array<char, 4096> bytes;
  std::ifstream in(file, std::ios::binary);
  in.read(bytes.data(), bytes.size());
  return std::find(bytes.begin(), bytes.begin() + in.gcount(), '\0') == bytes.begin() + in.gcount();
}

// Lists the kinds of files without weights: a list of all formats that weights ever had would be longer.
bool may_hold_weights(const Path& file) {
  static constexpr std::array<std::string_view, 34> without{
      ".json", ".jsonl", ".txt", ".md",   ".rst", ".py",   ".pyc",      ".ipynb", ".jinja", ".jinja2", ".yaml", ".yml",
      ".toml", ".cfg",   ".ini", ".csv",  ".tsv", ".html", ".css",      ".js",    ".sh",    ".log",    ".lock", ".png",
      ".jpg",  ".jpeg",  ".gif", ".webp", ".svg", ".pdf",  ".tiktoken", ".bpe",   ".vocab", ".merges"};
  const std::string name = lower_case(file.filename().string()), kind = lower_case(file.extension().string());
  if (name.starts_with(".") || name.starts_with("tokenizer")) return false;  // files of tools: .gitattributes, .cache
  if (name.ends_with(".index.json")) return true;
  // *.model without "piece" may be weights; sentencepiece's are vocabularies.
  if (kind == ".model") return name.find("piece") == std::string::npos;
  if (kind.empty()) return !is_text(file);  // such as LICENSE
  return std::find(without.begin(), without.end(), kind) == without.end();
}

// Sorted, so that messages are the same on every machine.
Result<std::vector<Path>> sorted_paths(const Path& folder) {
  std::error_code error;
  std::vector<Path> all = paths_in(folder, error);
  if (error) return bad_input(fmt::format("{}: cannot list the folder: {}", folder.string(), error.message()));
  std::sort(all.begin(), all.end());
  return all;
}

// The first file that may hold weights, in `folder` and in folders up to `depth` levels below.
Result<std::optional<Path>> other_weights(const Path& folder, int depth) {
  MEMO_TRY(const std::vector<Path> all, sorted_paths(folder));
  std::vector<Path> below;
  for (const Path& path : all) {
    std::error_code error;
    if (fs::is_directory(path, error)) {
      if (!path.filename().string().starts_with(".")) below.push_back(path);
    } else if (may_hold_weights(path)) {
      return path;
    }
  }
  for (const Path& path : below) {
    if (depth == 0) break;
    MEMO_TRY(std::optional<Path> found, other_weights(path, depth - 1));
    if (found) return found;
  }
  return std::nullopt;
}

std::string refusal(const Path& folder, const Path& found) {
  const std::string name = found.filename().string();
  if (found.parent_path() != folder && (name == "model.safetensors" || name == "model.safetensors.index.json"))
    return fmt::format("{}: holds no weights itself, but {} does; name that folder, or move its files up",
                       folder.string(), found.parent_path().string());
  if (found.extension() == ".safetensors")
    return fmt::format(
        "{}: weights are read from model.safetensors, or from shards that model.safetensors.index.json lists, and the "
        "folder has neither; download it whole, or save the model with transformers' save_pretrained",
        found.string());
  return fmt::format(
      "{}: may hold weights, of which only *.safetensors are read; save the model with transformers' save_pretrained "
      "(safe_serialization=True), or remove the file to begin with random weights",
      found.string());
}

}  // namespace

Result<bool> has_weights(const Path& folder) {
  const bool whole = is_there(folder / "model.safetensors") || is_there(folder / "model.safetensors.index.json");
  for (const char* adapter : {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"})
    if (is_there(folder / adapter))
      return bad_input(
          fmt::format("{}: the folder holds an adapter (LoRA), which is not read; merge it into its model (peft's "
                      "merge_and_unload) and save that{}",
                      (folder / adapter).string(), whole ? ", or move it elsewhere" : ""));
  if (whole) return true;
  constexpr int folders_below = 2;
  MEMO_TRY(const std::optional<Path> found, other_weights(folder, folders_below));
  if (found) return bad_input(refusal(folder, *found));
  return false;
}

}  // namespace memo::store
