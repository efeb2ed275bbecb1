// A fresh folder on a disk that takes a disk tier: in the temporary folder, or in /var/tmp where that one is in memory.
// Where there is none, tests of disks are skipped; with MEMO_TESTS_WHOLE in the environment (.ci/run) they fail.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <string>

#include "memo/exec/tier.h"

namespace memo::exec {

class DiskFolder {
 public:
  DiskFolder() {
    for (const Path& parent : {std::filesystem::temp_directory_path(), Path("/var/tmp")}) {
      std::string name = (parent / "memo-test-XXXXXX").string();
      if (::mkdtemp(name.data()) == nullptr) continue;
      if (auto tier = disk_tier(name, Bytes(4096))) {
        path_ = name;
        return;
      } else {
        refusal_ = tier.error().message;
      }
      std::filesystem::remove(name);
    }
    if (std::getenv("MEMO_TESTS_WHOLE") != nullptr) ADD_FAILURE() << "no folder takes a disk tier: " << refusal_;
  }
  DiskFolder(const DiskFolder&) = delete;
  DiskFolder& operator=(const DiskFolder&) = delete;
  // A folder that is not empty fails here: a tier leaves no file behind.
  ~DiskFolder() {
    if (path_.empty()) return;
    EXPECT_TRUE(std::filesystem::is_empty(path_)) << path_;
    std::filesystem::remove_all(path_);
  }

  [[nodiscard]] const Path& path() const { return path_; }  // empty: none was found
  [[nodiscard]] const std::string& refusal() const { return refusal_; }

 private:
  Path path_;
  std::string refusal_;
};

}  // namespace memo::exec

#define MEMO_SKIP_WITHOUT(disk_folder) \
  if ((disk_folder).path().empty()) GTEST_SKIP() << "no folder takes a disk tier: " << (disk_folder).refusal()
