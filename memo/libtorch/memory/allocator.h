// Takes over every CPU allocation of LibTorch (c10::SetCPUAllocator), to record it or to serve it at a planned address.
// This is one of the two places with global state, because LibTorch's allocator is global; scopes are per thread.
//
// An allocation of 0 bytes has no memory: it is not recorded, planned, counted or freed.
#pragma once

#include <c10/core/DeviceType.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "memo/base/units.h"

namespace memo::libtorch {

// Tensors begin at multiples of this many bytes, on the heap and in a plan.
inline constexpr std::size_t allocation_alignment = 64;

// Installs the allocator; later calls do nothing. Without a scope, allocations go to the heap and are counted.
void install_allocator();

struct HeapUse {
  Bytes live, peak;
};
HeapUse heap_use();      // of all threads' allocations outside of plans; bytes as requested
void reset_heap_peak();  // peak = live

// Registers memory in which planned addresses lie (memo/libtorch/memory/arena.h): freeing a tensor there returns
// nothing to the heap.
void register_arena(const std::byte* begin, Bytes bytes);
// Withdraws it and calls `release`, which may free it: now, or as the last block there is freed. External code and its
// exceptions may keep tensors as long as they like.
void withdraw_arena(const std::byte* begin, std::function<void()> release);
// The number of blocks that scopes placed there and that are not yet freed.
std::int64_t blocks_in_arena(const std::byte* begin);

// The heap of a device: it serves the allocations that no plan places.
class Heap {
 public:
  explicit Heap(c10::DeviceType device) : device_(device) {}
  virtual ~Heap() = default;
  [[nodiscard]] c10::DeviceType device() const { return device_; }
  // `recorder` is the number that `tell_scopes` gets when the block is freed.
  virtual void* allocate(std::size_t bytes, std::uint64_t recorder) = 0;

 private:
  c10::DeviceType device_;
};

// For the allocators of devices other than the CPU. `allocate_in_scope` serves an allocation of this thread by its
// innermost scope of the heap's device, or by the heap where there is no scope. `tell_scopes` reports that a block is
// being freed, before its memory can be given to another; `recorder` is the one of its allocation, 0 if none.
void* allocate_in_scope(std::size_t bytes, Heap& heap);
void tell_scopes(const void* address, std::size_t bytes, std::uint64_t recorder);
bool in_arena(const void* address);

// Scopes of one thread nest; the innermost scope of a device serves its allocations. In parallel regions LibTorch's own
// worker threads allocate without a scope.
class AllocationScope {
 public:
  AllocationScope(const AllocationScope&) = delete;
  AllocationScope& operator=(const AllocationScope&) = delete;

 protected:
  explicit AllocationScope(c10::DeviceType device) : device_(device) {}
  ~AllocationScope() = default;
  void enter();
  void leave();

 private:
  virtual void* serve(std::size_t bytes, Heap& heap) = 0;
  // True if the block belongs to this scope. `recorder`: the recording scope that made the block, 0 if none did.
  virtual bool freed(const void* address, std::size_t bytes, std::uint64_t recorder) = 0;
  AllocationScope* outer_ = nullptr;
  c10::DeviceType device_;
  friend void* allocate_in_scope(std::size_t bytes, Heap& heap);
  friend void tell_scopes(const void* address, std::size_t bytes, std::uint64_t recorder);
};

struct AllocationEvent {
  bool is_malloc = true;
  const void* address = nullptr;
  Bytes bytes;
};

// Allocations of external code below this many bytes are not planned: autograd keeps scalars without asking the hooks.
inline constexpr std::size_t least_planned = 64;

// While alive, logs every allocation of at least `least` bytes by this thread, and when such a block is freed, by any
// thread.
class RecordingScope final : public AllocationScope {
 public:
  explicit RecordingScope(c10::DeviceType device = c10::DeviceType::CPU, std::size_t least = 0);
  ~RecordingScope();
  // Read it when no other thread holds memory of this scope.
  [[nodiscard]] const std::vector<AllocationEvent>& events() const { return events_; }

 private:
  void* serve(std::size_t bytes, Heap& heap) override;
  bool freed(const void* address, std::size_t bytes, std::uint64_t recorder) override;
  std::uint64_t recorder_;
  std::size_t least_;
  std::vector<AllocationEvent> events_;
};

// While alive, this thread's allocations go to the heap, past all outer scopes. Use around code whose allocations vary
// between calls.
class UnplannedScope final : public AllocationScope {
 public:
  explicit UnplannedScope(c10::DeviceType device) : AllocationScope(device) { enter(); }
  ~UnplannedScope() { leave(); }

 private:
  void* serve(std::size_t bytes, Heap& heap) override { return heap.allocate(bytes, 0); }
  bool freed(const void*, std::size_t, std::uint64_t) override { return false; }
};

struct PlannedRequest {
  Bytes bytes;
  std::byte* address = nullptr;  // in a registered arena, aligned
  bool outlives = false;         // a planned tensor, which outlives the call; else a transient
  bool at_most = false;          // it serves smaller allocations too
};

// An allocation that differs from its call's plan.
struct Departure {
  enum class Kind {
    unplanned,       // the plan has another size here, or no more requests (planned == 0): served by the heap
    address_in_use,  // the planned address overlaps a block of the call that is still alive: served by the heap
    outlived,        // a transient that was alive when the call ended, though its address will be given to others
  };
  Kind kind = Kind::unplanned;
  int request = 0;  // number of the allocation within the call, from 0
  Bytes asked, planned;
};
std::string describe(const Departure& departure);

// While alive, the k-th allocation of this thread gets the k-th planned address when its size is the planned one, or a
// smaller one where the request is for at most its bytes; else
// it goes to the heap and is a departure (the k-th planned request is then skipped over only if a later one matches).
class PlannedScope final : public AllocationScope {
 public:
  // `requests` must outlive the scope. Allocations below `least` bytes are not planned.
  explicit PlannedScope(const std::vector<PlannedRequest>& requests, c10::DeviceType device = c10::DeviceType::CPU,
                        std::size_t least = 0);
  explicit PlannedScope(std::vector<PlannedRequest>&&, c10::DeviceType = c10::DeviceType::CPU,
                        std::size_t = 0) = delete;
  ~PlannedScope();
  // Ends the call: transients that are still alive become departures, and later allocations do not count as the call's.
  // The destructor does the same.
  const std::vector<Departure>& finish();
  [[nodiscard]] const std::vector<Departure>& departures() const { return departures_; }
  // The number of planned requests that were not served so far.
  [[nodiscard]] int unused() const { return static_cast<int>(requests_.size()) - served_; }

 private:
  struct Live {
    int request;          // number of the allocation within the call
    std::size_t planned;  // index into requests_
  };
  void* serve(std::size_t bytes, Heap& heap) override;
  bool freed(const void* address, std::size_t bytes, std::uint64_t recorder) override;
  void* planned_address(std::size_t bytes);
  [[nodiscard]] bool in_use(const PlannedRequest& wanted) const;

  const std::vector<PlannedRequest>& requests_;
  std::size_t least_;
  std::size_t next_ = 0;
  int asked_ = 0, served_ = 0;
  bool finished_ = false;
  std::vector<Live> live_;
  std::vector<Departure> departures_;
};

}  // namespace memo::libtorch
