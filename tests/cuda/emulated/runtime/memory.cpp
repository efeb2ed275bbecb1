// The emulated devices' memory: each allocation is a file mapped twice, once where nothing may touch it.
#include <sys/mman.h>
#include <unistd.h>

#include "memo/base/check.h"
#include "tests/cuda/emulated/runtime/machine.h"

namespace memo::cuda::emulated {

void* Machine::allocate(std::size_t bytes, int device) {
  if (free_bytes(device) < static_cast<std::int64_t>(bytes)) return nullptr;
  const int file = ::memfd_create("device", MFD_CLOEXEC);
  MEMO_CHECK(file >= 0 && ::ftruncate(file, static_cast<off_t>(bytes)) == 0, "the host has memory for the device's");
  void* address = ::mmap(nullptr, bytes, PROT_NONE, MAP_SHARED, file, 0);
  void* alias = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  MEMO_CHECK(address != MAP_FAILED && alias != MAP_FAILED, "the device's memory can be mapped");
  ::close(file);
  const std::lock_guard lock(mutex_);
  device_[static_cast<std::byte*>(address)] = {bytes, static_cast<std::byte*>(alias), device};
  return address;
}

bool Machine::free(void* memory) {
  wait_for_all();
  const std::lock_guard lock(mutex_);
  const auto found = device_.find(static_cast<std::byte*>(memory));
  if (found == device_.end()) return false;
  ::munmap(found->first, found->second.bytes);
  ::munmap(found->second.alias, found->second.bytes);
  device_.erase(found);
  return true;
}

std::int64_t Machine::free_bytes(int device) {
  const std::lock_guard lock(mutex_);
  std::int64_t free = settings_.device_bytes - settings_.taken_bytes;
  for (const auto& [address, allocation] : device_)
    if (allocation.device == device) free -= static_cast<std::int64_t>(allocation.bytes);
  return free;
}

int Machine::device_of(const void* address) {
  const std::lock_guard lock(mutex_);
  auto* wanted = static_cast<std::byte*>(const_cast<void*>(address));
  const auto above = device_.upper_bound(wanted);
  if (above == device_.begin()) return -1;
  const auto& [begin, allocation] = *std::prev(above);
  return wanted < begin + allocation.bytes ? allocation.device : -1;
}

cudaError_t Machine::register_host(void* memory, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  std::int64_t locked = static_cast<std::int64_t>(bytes);
  for (const auto& [address, size] : registered_) locked += static_cast<std::int64_t>(size);
  if (locked > settings_.lockable_bytes) return cudaErrorMemoryAllocation;
  return registered_.emplace(static_cast<std::byte*>(memory), bytes).second ? cudaSuccess
                                                                            : cudaErrorHostMemoryAlreadyRegistered;
}

bool Machine::unregister_host(void* memory) {
  const std::lock_guard lock(mutex_);
  return registered_.erase(static_cast<std::byte*>(memory)) > 0;
}

std::byte* Machine::device_bytes(const void* address, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  auto* wanted = static_cast<std::byte*>(const_cast<void*>(address));
  const auto above = device_.upper_bound(wanted);
  if (above == device_.begin()) return nullptr;
  const auto& [begin, allocation] = *std::prev(above);
  const auto at = static_cast<std::size_t>(wanted - begin);
  return at + bytes <= allocation.bytes ? allocation.alias + at : nullptr;
}

bool Machine::is_registered(const void* address, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  auto* wanted = static_cast<std::byte*>(const_cast<void*>(address));
  const auto above = registered_.upper_bound(wanted);
  if (above == registered_.begin()) return false;
  const auto& [begin, size] = *std::prev(above);
  return static_cast<std::size_t>(wanted - begin) + bytes <= size;
}

}  // namespace memo::cuda::emulated
