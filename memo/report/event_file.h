// Scalars over steps as TensorBoard reads them: a file of TFRecords (length and masked CRC-32C around each), each a
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
  // A new file in `folder`, which is made when it is not there: a run that goes on adds one to those of before.
  // `now`: seconds since 1970.
  static Result<EventFile> create(const Path& folder, double now);
  // All of one step, on the disk's side when it returns.
  Status add(std::int64_t step, double now, std::span<const Scalar> scalars);

 private:
  explicit EventFile(Path path) : path_(std::move(path)) {}
  Status append(const std::string& event);
  Path path_;
};

}  // namespace memo::report
