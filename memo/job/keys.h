// The keys of job.toml as one table: what each expects, where its value goes, and whether a run may go on when it has
// changed.
#pragma once

#include <toml++/toml.h>

#include <functional>
#include <string>
#include <vector>

#include "memo/job/job.h"

namespace memo::job {

struct Key {
  std::string name;  // dotted
  AtResume at_resume;
  std::string expected;                              // completes "must be ..."
  std::function<bool(const toml::node&, Job&)> set;  // false: wrong type or out of range
  std::function<std::string(const Job&)> text;       // the value as TOML
};

const std::vector<Key>& keys();

}  // namespace memo::job
