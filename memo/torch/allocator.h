// Takes over every CPU allocation of LibTorch (c10::SetCPUAllocator): records, or serves planned addresses. This is one
// of the two places with global state, because LibTorch's allocator is global; scopes are per thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "memo/base/units.h"

namespace memo::edge {

// Installs the allocator; later calls do nothing. Without a scope, allocations go to the heap (64-byte aligned) and are
// counted.
void install_allocator();

struct HeapUse {
  Bytes live, peak;
};
HeapUse heap_use();      // of allocations that no plan placed, all threads
void reset_heap_peak();  // peak = live

struct AllocationEvent {
  bool is_malloc = true;
  const void* address = nullptr;
  Bytes bytes;
};

// While alive, logs every malloc and free that this thread's calls make (frees by any thread of memory that was
// allocated under the scope).
class RecordingScope {
 public:
  RecordingScope();
  ~RecordingScope();
  RecordingScope(const RecordingScope&) = delete;
  RecordingScope& operator=(const RecordingScope&) = delete;
  [[nodiscard]] const std::vector<AllocationEvent>& events() const { return events_; }

 private:
  std::vector<AllocationEvent> events_;
};

struct PlannedRequest {
  Bytes bytes;
  std::byte* address = nullptr;
};

// A request that the plan does not have, or that outlives its call: served by the heap.
struct Departure {
  int request = 0;  // its number within the call
  Bytes asked, planned;
};

// While alive, the k-th allocation of this thread gets the k-th planned address when its size is the planned one; else
// it goes to the heap and is a departure (the k-th planned request is then skipped over only if a later one matches).
class PlannedScope {
 public:
  explicit PlannedScope(const std::vector<PlannedRequest>& requests);
  ~PlannedScope();
  PlannedScope(const PlannedScope&) = delete;
  PlannedScope& operator=(const PlannedScope&) = delete;
  [[nodiscard]] const std::vector<Departure>& departures() const { return departures_; }
  // Planned requests that were never asked for.
  [[nodiscard]] int unused() const;

 private:
  const std::vector<PlannedRequest>& requests_;
  std::size_t next_ = 0;
  std::vector<Departure> departures_;
  friend struct PlannedAllocation;
};

}  // namespace memo::edge
