// Where the faults are: in what is given to the device, and in the handler of stray touches.
#include "tests/cuda/torch/planted.h"

#include <ATen/ops/empty.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "memo/base/check.h"
#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

struct Fault {
  std::string what, where;
};

const Fault& fault() {
  static const Fault planted = [] {
    const char* given = std::getenv("MEMO_EMULATED_PLANT");
    const std::string text = given == nullptr ? "" : given;
    const std::size_t end = std::min(text.find(' '), text.size());
    Fault result{text.substr(0, end), text.substr(std::min(end + 1, text.size()))};
    for (const char* known : {"", "read", "temporary", "wait", "omit", "any-order"})
      if (result.what == known) return result;
    MEMO_CHECK(false, "MEMO_EMULATED_PLANT names one of the faults");
  }();
  return planted;
}

// Of the thread, for a handler of signals: no allocation.
thread_local std::array<char, 128> last_operator{};

void on_stray_touch(int number, siginfo_t* info, void*) {
  if (const int device = device_of(info->si_addr); device >= 0) {
    std::array<char, 320> line{};
    const int length = std::snprintf(line.data(), line.size(),
                                     "the host touched the emulated GPU's memory: address %p of cuda:%d, after %s\n",
                                     info->si_addr, device, last_operator.data());
    static_cast<void>(!write(STDERR_FILENO, line.data(), static_cast<std::size_t>(length)));
  }
  signal(number, SIG_DFL);  // the touch is tried again, and ends the process
}

}  // namespace

void plant_in_operator(c10::DeviceIndex device, const std::string& name) {
  std::strncpy(last_operator.data(), name.c_str(), last_operator.size() - 1);
  if (fault().where != name) return;
  const auto bytes = at::dtype(at::kByte).device(c10::Device(c10::kCUDA, device));
  if (fault().what == "temporary") at::empty({4096}, bytes);
  if (fault().what == "wait") wait_for_stream(device, name);
  if (fault().what == "read") {
    const at::Tensor tensor = at::empty({4096}, bytes);
    static_cast<void>(*static_cast<const volatile char*>(tensor.const_data_ptr()));
  }
}

bool planted_any_order() { return fault().what == "any-order"; }

void plant() {
  if (fault().what == "omit") omit(fault().where);
  struct sigaction action {};
  action.sa_sigaction = &on_stray_touch;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
}

}  // namespace memo::cuda::emulated
