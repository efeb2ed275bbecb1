// The one place of global state. Linking it makes the process one with a GPU, whose settings are in the environment:
// MEMO_EMULATED_PACE (prompt, late, random), _DEVICES, _BYTES (of each device's memory), _TAKEN (of these, by others),
// _LOCKABLE (bytes that may be registered), _CAPABILITY (90), _SEED (of sums without an order), _FAIL (calls that fail,
// "function:error's number:calls before it"; without a function all do), _PLANT (planted.h), and two files that are
// written at the end: _WAITS, the host's waits, "count what" a line, and _HOST_WORK, launches and the emulation's
// seconds.
#include "tests/cuda/torch/state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <c10/core/Allocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <omp.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "memo/base/check.h"
#include "tests/cuda/emulated/runtime/share.h"
#include "tests/cuda/torch/device.h"
#include "tests/cuda/torch/planted.h"

namespace memo::cuda::emulated {
namespace {

std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

Settings settings() {
  Settings result;
  result.devices = std::stoi(environment("MEMO_EMULATED_DEVICES", "1"));
  result.device_bytes = std::stoll(environment("MEMO_EMULATED_BYTES", "8589934592"));
  result.taken_bytes = std::stoll(environment("MEMO_EMULATED_TAKEN", "0"));
  result.lockable_bytes = std::stoll(environment("MEMO_EMULATED_LOCKABLE", "9223372036854775807"));
  result.capability = std::stoi(environment("MEMO_EMULATED_CAPABILITY", "90"));
  const std::string pace = environment("MEMO_EMULATED_PACE", "prompt");
  MEMO_CHECK(pace == "prompt" || pace == "late" || pace == "random", "MEMO_EMULATED_PACE is one of the paces");
  result.pace = pace == "late" ? Pace::late : pace == "random" ? Pace::random : Pace::prompt;
  return result;
}

void plant_failure(const std::string& text) {
  std::istringstream parts(text);
  std::string function, error, after;
  const bool whole = std::getline(parts, function, ':') && std::getline(parts, error, ':') && (parts >> after);
  MEMO_CHECK(whole, "MEMO_EMULATED_FAIL has three parts");
  fail(function, static_cast<cudaError_t>(std::stoi(error)), std::stoi(after));
}

std::string waits_as_text() {
  std::ostringstream text;
  for (const auto& [what, count] : host_waits()) text << count << ' ' << what << '\n';
  return text.str();
}

void write_waits() { std::ofstream(environment("MEMO_EMULATED_WAITS", "")) << waits_as_text(); }

void write_host_work() {
  const HostWork work = host_work();
  std::ofstream(environment("MEMO_EMULATED_HOST_WORK", "")) << work.launches << ' ' << work.seconds << '\n';
}

const bool opened = [] {
  reset(settings());
  if (const std::string text = environment("MEMO_EMULATED_FAIL", ""); !text.empty()) plant_failure(text);
  c10::SetAllocator(c10::kCUDA, &caching_allocator());
  c10::cuda::CUDACachingAllocator::allocator.store(&caching_allocator());
  plant();
  if (!environment("MEMO_EMULATED_WAITS", "").empty())
    static_cast<void>(std::at_quick_exit(write_waits));  // as memo ends
  if (!environment("MEMO_EMULATED_HOST_WORK", "").empty()) static_cast<void>(std::at_quick_exit(write_host_work));
  return true;
}();

}  // namespace

CachingAllocator& caching_allocator() {
  static auto* const one = new CachingAllocator;  // never destroyed: it frees tensors of static life
  return *one;
}

std::map<c10::DeviceIndex, c10::StreamId>& current_streams() {
  thread_local std::map<c10::DeviceIndex, c10::StreamId> streams;
  return streams;
}

c10::StreamId pool_stream(c10::DeviceIndex device) {
  constexpr std::size_t pool = 4;
  static std::array<std::map<c10::DeviceIndex, cudaStream_t>, pool> streams;
  static std::size_t next = 0;
  cudaStream_t& stream = streams.at(next++ % pool)[device];
  const Current there(c10::Device(c10::kCUDA, device));
  if (stream == nullptr) C10_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return reinterpret_cast<c10::StreamId>(stream);
}

const at::Generator& default_generator(c10::DeviceIndex index) {
  static auto* const all = new std::map<c10::DeviceIndex, at::Generator>;
  if (index < 0) index = c10::cuda::current_device();
  at::Generator& generator = (*all)[index];
  if (!generator.defined()) generator = new_generator(index);
  return generator;
}

bool in_one_order() {
  const at::Context& context = at::globalContext();
  return context.deterministicAlgorithms() && !context.deterministicAlgorithmsWarnOnly();
}

std::uint64_t another_order() {
  static const std::string given = environment("MEMO_EMULATED_SEED", "");
  static std::atomic<std::uint64_t> next{given.empty() ? std::random_device{}() : std::stoull(given)};
  return next.fetch_add(0x9e3779b97f4a7c15);
}

Current::Current(std::optional<c10::Device> device)
    : before_(device && device->has_index() ? c10::cuda::ExchangeDevice(device->index())
                                            : static_cast<c10::DeviceIndex>(-1)) {}
Current::~Current() {
  if (before_ >= 0) cudaSetDevice(before_);  // it may fail where a kernel has failed
}

OnCpu::OnCpu() : no_autocast_(c10::autocast_dispatch_keyset), threads_(omp_get_max_threads()) {
  omp_set_num_threads(1);
}
OnCpu::~OnCpu() { omp_set_num_threads(threads_); }

}  // namespace memo::cuda::emulated

// For a process of Python: the host's waits so far, "count what" a line.
extern "C" const char* memo_emulated_waits() {
  thread_local std::string text;
  text = memo::cuda::emulated::waits_as_text();
  return text.c_str();
}

// For Python (emulated_torch.py): how often a function of the runtime was called.
extern "C" std::int64_t memo_emulated_calls(const char* function);
std::int64_t memo_emulated_calls(const char* function) { return memo::cuda::emulated::calls(function); }
