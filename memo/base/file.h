// Files as values: whole reads, atomic writes, JSON with the file's name in every message.
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
// Writes beside `path`, fsyncs, renames over it and fsyncs the folder: `path` is the old text or the new, never half.
Status write_atomically(const Path& path, std::string_view text);
Status make_folder(const Path& path);
// All of it to an open file. False: errno says why.
bool write_all(int fd, std::string_view bytes);
Result<nlohmann::json> read_json(const Path& path);

// `object[key]` as T, or an error that names `where` (a file), the key and the expected type.
template <class T>
Result<T> json_field(const nlohmann::json& object, const char* key, const Path& where);

}  // namespace memo
