// The kinds of devices that this program has, in one registry: each kind's folder enters itself. A kind is what opens a
// device, and the table of its kernels.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>
#include <vector>

#include "memo/base/result.h"
#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"

namespace memo::libtorch {

struct Kernels;  // memo/libtorch/kernels/table.h

// Where calls run: on a stream of Memo's own, or on the caller's, in order with what else the caller does there.
enum class Stream { own, of_caller };

struct DeviceKind {
  std::string name;         // as memory.device says
  c10::DeviceType tensors;  // of tensors in its memory
  Result<std::unique_ptr<Device>> (*open)(Stream stream);
  Status (*trains)(job::DType dtype);     // or why not
  const Kernels& (*kernels)() = nullptr;  // null: those of the CPU
};

// A folder's entry, in a file of its own: `const Registered registered({...});`. The registry is global, since a
// program's devices are what it is linked of; it does not change once main has begun.
struct Registered {
  explicit Registered(DeviceKind kind);
};

// In no order but that the CPU is last.
std::vector<const DeviceKind*> device_kinds();
// The first of these tensors; null: there is none.
const DeviceKind* kind_of(c10::DeviceType tensors);

// As memory.device says: by name or, of "auto", the first that trains the dtype and opens.
Result<std::unique_ptr<Device>> open_device(const std::string& name, job::DType dtype);
// For tensors at `place`, on the caller's stream.
Result<std::unique_ptr<Device>> open_device(c10::Device place);

}  // namespace memo::libtorch
