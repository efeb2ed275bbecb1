// The registry of the kinds of devices that this program has. A kind is a way to open a device, and a table of kernels;
// each kind's folder enters it.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "memo/base/result.h"
#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"

namespace memo::libtorch {

struct Kernels;  // memo/libtorch/kernels/table.h

// The stream that calls run on: one of Memo's own, or the caller's, in order with the caller's other work.
enum class Stream { own, of_caller };

// What attention computes with.
struct OfAttention {
  job::DType dtype = job::DType::float32;
  std::int64_t head_dim = 0;
};

struct DeviceKind {
  std::string name;                                                   // its name in memory.device
  c10::DeviceType tensors;                                            // where its tensors lie, for LibTorch
  Result<std::unique_ptr<Device>> (*open)(Stream stream, int index);  // index: of several devices of the kind
  Status (*trains)(const OfAttention& heads);                         // an error says why the kind does not train them
  const Kernels& (*kernels)() = nullptr;                              // null: the kernels of the CPU
};

// A folder's entry, in a file of its own: `const Registered registered({...});`. The registry is global, since linking
// decides which devices a program has; it does not change once main has begun.
struct Registered {
  explicit Registered(DeviceKind kind);
};

// In any order, but the CPU last.
std::vector<const DeviceKind*> device_kinds();
// The first kind whose tensors are these; null if there is none.
const DeviceKind* kind_of(c10::DeviceType tensors);

// The device that memory.device names. "auto" is the first kind that trains such heads and opens; `say` is told why
// kinds before it were passed over.
Result<std::unique_ptr<Device>> open_device(const std::string& name, const OfAttention& heads,
                                            const std::function<void(const std::string&)>& say = {});
// The device of tensors at `place`, on the caller's stream.
Result<std::unique_ptr<Device>> open_device(c10::Device place);

}  // namespace memo::libtorch
