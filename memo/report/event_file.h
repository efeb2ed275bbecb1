// Writes scalars over steps for TensorBoard: a file of TFRecords (length and masked CRC-32C around each), each a
// tensorflow.Event message (wall_time = 1, step = 2, file_version = 3, summary = 5) in protobuf's wire format.
// https://www.tensorflow.org/tutorials/load_data/tfrecord, tensorflow/core/util/event.proto
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::report {

struct Scalar {
  std::string_view tag;
  double value = 0;
};

class EventFile {
 public:
  // Begins a new file in `folder`, which is made if it is missing: a resumed run adds a file to those of earlier ones.
  // `now`: seconds since 1970.
  static Result<EventFile> create(const Path& folder, double now);
  // Writes all scalars of one step; they are in the kernel's hands when it returns.
  Status add(std::int64_t step, double now, std::span<const Scalar> scalars);

 private:
  explicit EventFile(Path path) : path_(std::move(path)) {}
  Status append(const std::string& event);
  Path path_;
};

}  // namespace memo::report
