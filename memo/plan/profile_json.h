// A profile as JSON, for the two files that contain one (docs/formats.md).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "memo/base/result.h"
#include "memo/plan/json_cursor.h"
#include "memo/plan/profile.h"

namespace memo::plan {

nlohmann::ordered_json profile_json(const Profile& profile);
// Checks only the form; check_profile checks ranges.
Profile profile_from(const JsonCursor& object);

// Gives classes and segments the roles that their names say, as the tables of memo/model name them: files of version 3
// hold names alone. What is named otherwise is of role `other`.
void take_roles(model::Dataflow& flow);

// Refuses a document that is another kind of file, or of a version that is not read; `maker` is the verb that writes
// this kind. Returns the version.
int check_format(const JsonCursor& document, const std::string& format, int oldest, int newest,
                 const std::string& maker);

}  // namespace memo::plan
