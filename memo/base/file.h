// Files as values: whole reads, atomic writes that replace nothing of others, JSON with the file's name in every
// message.
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
// Of a file that open() refused with `error`: a cache of downloads holds links, whose file may be gone.
std::string why_not_opened(const Path& path, int error);
// Writes beside `path` under a name that nothing has, fsyncs, renames over it and fsyncs the folder: `path` is the old
// text or the new, never half. Of a symbolic link the file that it names.
Status write_atomically(const Path& path, std::string_view text);

// What Memo's own files are known by, so that it replaces no others.
struct FileKind {
  const char* name;           // "a plan"
  const char* begins;         // every file of the kind begins so,
  const char* contains = "";  // and has this in its first 4096 bytes
};
// An error when what is at `path` is neither empty nor of the kind. For long work: asked before it begins.
Status check_replaceable(const Path& path, const FileKind& kind);
// write_atomically, after check_replaceable.
Status replace_file(const Path& path, std::string_view text, const FileKind& kind);

Status make_folder(const Path& path);
// The error of make_folder, or of writing into the folder, as far as it can be told without making anything.
Status check_folder(const Path& path);
// All of it to an open file. False: errno says why.
bool write_all(int fd, std::string_view bytes);
Result<nlohmann::json> read_json(const Path& path);

// `object[key]` as T, or an error that names `where` (a file), the key and the expected type.
template <class T>
Result<T> json_field(const nlohmann::json& object, const char* key, const Path& where);

}  // namespace memo
