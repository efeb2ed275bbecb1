// Files as values: whole reads, atomic writes that replace only Memo's own files, and JSON whose errors name the file.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "memo/base/result.h"

namespace memo {

using Path = std::filesystem::path;
using Progress = std::function<void()>;  // called whenever a part of long work is done

Result<std::string> read_text(const Path& path);
// The error for a file that open() refused with `error`. It knows that a download cache holds links to files that may
// be gone.
std::string why_not_opened(const Path& path, int error);
// Writes a new file beside `path`, fsyncs it, renames it to `path` and fsyncs the folder: `path` holds the old text or
// the new one, never half. If `path` is a symbolic link, the file that it names is replaced.
Status write_atomically(const Path& path, std::string_view text);

// A kind of Memo's own files, recognised by content, so that Memo replaces no other files.
struct FileKind {
  const char* name;           // as messages say: "a plan"
  const char* begins;         // first bytes of every file of the kind
  const char* contains = "";  // also in its first 4096 bytes
};
// An error when the file at `path` is neither empty nor of the kind. For long work: ask before it begins.
Status check_replaceable(const Path& path, const FileKind& kind);
// Calls check_replaceable, then write_atomically.
Status replace_file(const Path& path, std::string_view text, const FileKind& kind);

Status make_folder(const Path& path);
// The error that make_folder, or a write into the folder, would give, as far as it can be told without making anything.
Status check_folder(const Path& path);
// Writes all of it to an open file. False: errno has the reason.
bool write_all(int fd, std::string_view bytes);
Result<nlohmann::json> read_json(const Path& path);

// `object[key]` as T, or an error that names `where` (a file), the key and the expected type.
template <class T>
Result<T> json_field(const nlohmann::json& object, const char* key, const Path& where);

}  // namespace memo
