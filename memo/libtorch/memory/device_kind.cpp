// The registry, and the choice of a kind by name or by tensors.
#include "memo/libtorch/memory/device_kind.h"

#include <c10/core/DeviceType.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace memo::libtorch {
namespace {

std::vector<DeviceKind>& registry() {
  static std::vector<DeviceKind> kinds;
  return kinds;
}

const DeviceKind& cpu() {
  static const DeviceKind kind{"cpu", c10::DeviceType::CPU,
                               [](Stream, int) -> Result<std::unique_ptr<Device>> { return cpu_device(); },
                               [](const OfAttention&) { return Status(); }};
  return kind;
}

}  // namespace

Registered::Registered(DeviceKind kind) { registry().push_back(std::move(kind)); }

std::vector<const DeviceKind*> device_kinds() {
  std::vector<const DeviceKind*> kinds;
  for (const DeviceKind& kind : registry()) kinds.push_back(&kind);
  kinds.push_back(&cpu());
  return kinds;
}

const DeviceKind* kind_of(c10::DeviceType tensors) {
  const auto found = std::ranges::find(registry(), tensors, &DeviceKind::tensors);
  if (found != registry().end()) return &*found;
  return tensors == cpu().tensors ? &cpu() : nullptr;
}

Result<std::unique_ptr<Device>> open_device(const std::string& name, const OfAttention& heads,
                                            const std::function<void(const std::string&)>& say) {
  for (const DeviceKind* kind : device_kinds()) {
    if (name != "auto" && name != kind->name) continue;
    const Status trains = kind->trains(heads);
    auto device = trains ? kind->open(Stream::own, 0) : tl::unexpected<Error>(trains.error());
    if (device || name != "auto") return device;
    if (say) say(fmt::format("memory.device = \"auto\" is not \"{}\": {}", kind->name, device.error().message));
  }
  return bad_input(fmt::format("memory.device = \"{}\": this build has no {} backend; use \"cpu\"", name,
                               name == "cuda" ? "CUDA" : name));
}

Result<std::unique_ptr<Device>> open_device(c10::Device place) {
  if (const DeviceKind* kind = kind_of(place.type()))
    return kind->open(Stream::of_caller, place.has_index() ? place.index() : 0);
  if (registry().empty())
    return bad_input(
        "this build of memo is for the CPU; one that is built with nvcc and a PyTorch for CUDA runs on a GPU too");
  return bad_input(fmt::format("layers do not run on {}", c10::DeviceTypeName(place.type(), true)));
}

}  // namespace memo::libtorch
