// Seeds of blocks, and the exchange of LibTorch's generator states.
#include "memo/plugin/block_random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <mutex>
#include <optional>

namespace memo::plugin {
namespace {

// A step of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
std::uint64_t mixed(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

}  // namespace

std::uint64_t block_seed(std::uint64_t step_seed, model::LayerIndex layer, model::BlockIndex block, int part) {
  const auto place = (static_cast<std::uint64_t>(layer.value()) << 40) |
                     (static_cast<std::uint64_t>(block.value()) << 1) | static_cast<std::uint64_t>(part);
  return mixed(mixed(step_seed) ^ place);
}

struct BlockRandom::Before {
  at::Generator cpu = at::detail::getDefaultCPUGenerator();
  at::mt19937 engine;
  std::optional<float> next_float;
  std::optional<double> next_double;
  std::optional<at::Generator> device;
  std::uint64_t device_seed = 0, device_offset = 0;

  [[nodiscard]] at::CPUGeneratorImpl& of_cpu() const { return *cpu.get<at::CPUGeneratorImpl>(); }
};

BlockRandom::BlockRandom(at::Device device, std::uint64_t seed) : before_(std::make_unique<Before>()) {
  Before& before = *before_;
  {
    at::CPUGeneratorImpl& cpu = before.of_cpu();
    const std::lock_guard lock(cpu.mutex_);
    before.engine = cpu.engine();
    if (const auto next = cpu.next_float_normal_sample()) before.next_float = *next;
    if (const auto next = cpu.next_double_normal_sample()) before.next_double = *next;
    cpu.set_current_seed(seed);
  }
  if (device.is_cpu()) return;
  before.device = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(before.device->mutex());
  before.device_seed = before.device->current_seed();
  before.device_offset = before.device->get_offset();
  before.device->set_current_seed(seed);
}

BlockRandom::~BlockRandom() {
  const Before& before = *before_;
  {
    at::CPUGeneratorImpl& cpu = before.of_cpu();
    const std::lock_guard lock(cpu.mutex_);
    cpu.set_engine(before.engine);
    cpu.set_next_float_normal_sample(before.next_float);
    cpu.set_next_double_normal_sample(before.next_double);
  }
  if (!before.device) return;
  at::Generator device = *before.device;
  const std::lock_guard lock(device.mutex());
  device.set_current_seed(before.device_seed);
  device.set_offset(before.device_offset);
}

bool BlockRandom::drew() const {
  const at::mt19937_data_pod now = before_->of_cpu().engine().data();
  const bool cpu = now.left_ != 1 || now.next_ != 0;
  return cpu || (before_->device && before_->device->get_offset() != 0);
}

}  // namespace memo::plugin
