// Faults that a test plants in the emulated GPU, by MEMO_EMULATED_PLANT in the environment:
//   read OPERATOR         the host reads a tensor's memory where it gives this operator to the device
//   temporary OPERATOR    the operator asks for 4096 bytes more than it needs for its results
//   wait OPERATOR         the operator makes the host wait
//   omit FUNCTION         calls of this function of the runtime do nothing (emulated.h)
//   any-order             flash attention adds gradients in any order though one order is asked for
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace memo::cuda::emulated {

// Called for each operator that is given to the device.
void plant_in_operator(c10::DeviceIndex device, const std::string& name);
bool planted_any_order();

// Called once, when there is a machine. A touch of device memory by the host then ends the process with a line that
// names the address and the last operator that the thread gave to the device.
void plant();

}  // namespace memo::cuda::emulated
