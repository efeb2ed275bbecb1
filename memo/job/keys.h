// The table of the keys of job.toml: the values that each accepts, the member that it sets, and what a change of it
// means for a resumed run.
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
