// How allocations reach their scope. Blocks of the heap carry a header, planned blocks do not; the registered arenas
// tell by address which kind a block is. One lock guards scopes; threads without a scope never take it for their own
// heap blocks.
#include "memo/libtorch/memory/allocator.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <utility>

#include "memo/base/check.h"

namespace memo::libtorch {
namespace {

// Blocks above this size come from the kernel and return to it, so that resident memory follows live bytes; the C
// library keeps smaller blocks when they are freed.
constexpr std::size_t mapped_from = 1 << 20;

struct alignas(allocation_alignment) Header {  // lies right before a heap block
  std::size_t bytes;
  std::uint64_t recorder;
};

std::atomic<std::int64_t> heap_live{0}, heap_peak{0};

struct CpuHeap final : Heap {
  CpuHeap() : Heap(c10::DeviceType::CPU) {}
  void* allocate(std::size_t bytes, std::uint64_t recorder) override;
};

void* CpuHeap::allocate(std::size_t bytes, std::uint64_t recorder) {
  void* base = nullptr;
  if (bytes >= mapped_from) {
    base = mmap(nullptr, bytes + sizeof(Header), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) base = nullptr;
  } else {
    const std::size_t whole = (bytes + sizeof(Header) + allocation_alignment - 1) & ~(allocation_alignment - 1);
    base = std::aligned_alloc(allocation_alignment, whole);
  }
  TORCH_CHECK_WITH(OutOfMemoryError, base != nullptr, "no memory for a tensor of ", bytes,
                   " bytes on the heap: use a shorter context or a smaller block");
  new (base) Header{bytes, recorder};
  const auto size = static_cast<std::int64_t>(bytes);
  const std::int64_t live = heap_live.fetch_add(size, std::memory_order_relaxed) + size;
  std::int64_t peak = heap_peak.load(std::memory_order_relaxed);
  while (live > peak && !heap_peak.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
  }
  return static_cast<std::byte*>(base) + sizeof(Header);
}

void heap_free(Header* header) {
  const std::size_t bytes = header->bytes;
  heap_live.fetch_sub(static_cast<std::int64_t>(bytes), std::memory_order_relaxed);
  if (bytes >= mapped_from) {
    munmap(header, bytes + sizeof(Header));
  } else {
    std::free(header);
  }
}

struct Range {
  const std::byte *begin, *end;
};
using Ranges = std::vector<Range>;

struct ArenaUse {
  std::int64_t blocks = 0;        // that are alive
  std::function<void()> release;  // of an arena that is withdrawn when no block is left
};

// Never destroyed: tensors of static life are freed after our statics would be destroyed.
struct State {
  std::mutex mutex;
  std::vector<AllocationScope*> scopes;         // all threads', oldest first
  std::map<const std::byte*, ArenaUse> in_use;  // by the arena's begin
  std::deque<Ranges> arenas{{}};  // the last is current; older ones stay, since a free may still be reading one
  std::atomic<const Ranges*> current_arenas{&arenas.back()};
};
State& state() {
  static auto* const state = new State;
  return *state;
}

// Call these with the state locked. The arena around an address:
std::map<const std::byte*, ArenaUse>::iterator arena_of(const void* address) {
  return std::prev(state().in_use.upper_bound(static_cast<const std::byte*>(address)));
}
// Forgets the arena and returns what releases it.
std::function<void()> taken_out(std::map<const std::byte*, ArenaUse>::iterator arena) {
  Ranges arenas = state().arenas.back();
  std::erase_if(arenas, [&](const Range& range) { return range.begin == arena->first; });
  state().current_arenas.store(&state().arenas.emplace_back(std::move(arenas)), std::memory_order_release);
  return std::move(state().in_use.extract(arena).mapped().release);
}

bool all_in_arena(const std::byte* begin, std::size_t bytes) {
  const Ranges& arenas = *state().current_arenas.load(std::memory_order_acquire);
  return std::any_of(arenas.begin(), arenas.end(),
                     [&](const Range& arena) { return arena.begin <= begin && begin + bytes <= arena.end; });
}

thread_local AllocationScope* innermost = nullptr;

}  // namespace

struct Allocations final : c10::Allocator {
  static void* take(std::size_t bytes) {
    static CpuHeap heap;
    return bytes == 0 ? nullptr : allocate_in_scope(bytes, heap);
  }
  static void give(void* address) {
    if (address == nullptr) return;
    if (in_arena(address)) return tell_scopes(address, 0, 0);
    auto* header = static_cast<Header*>(address) - 1;
    // The scopes are told before the block is freed. Otherwise another thread could get, and log, the same address
    // first.
    if (header->recorder != 0) tell_scopes(address, header->bytes, header->recorder);
    heap_free(header);
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    void* address = take(bytes);
    return {address, address, &give, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
};

void* allocate_in_scope(std::size_t bytes, Heap& heap) {
  for (AllocationScope* scope = innermost; scope != nullptr; scope = scope->outer_)
    if (scope->device_ == heap.device()) return scope->serve(bytes, heap);
  return heap.allocate(bytes, 0);
}

void tell_scopes(const void* address, std::size_t bytes, std::uint64_t recorder) {
  std::function<void()> release;  // of the arena, if this was its last block
  {
    const std::lock_guard lock(state().mutex);
    const auto& scopes = state().scopes;
    std::any_of(scopes.rbegin(), scopes.rend(),
                [&](AllocationScope* scope) { return scope->freed(address, bytes, recorder); });
    if (recorder != 0) return;
    const auto arena = arena_of(address);
    if (--arena->second.blocks == 0 && arena->second.release) release = taken_out(arena);
  }
  if (release) release();
}

bool in_arena(const void* address) { return all_in_arena(static_cast<const std::byte*>(address), 1); }

void install_allocator() {
  static const bool installed = [] {
    constexpr std::uint8_t above_all_others = 255;
    c10::SetCPUAllocator(new Allocations, above_all_others);
    return true;
  }();
  static_cast<void>(installed);
}

HeapUse heap_use() { return {Bytes(heap_live.load()), Bytes(heap_peak.load())}; }
void reset_heap_peak() { heap_peak = heap_live.load(); }

void register_arena(const std::byte* begin, Bytes bytes) {
  const std::lock_guard lock(state().mutex);
  Ranges arenas = state().arenas.back();
  arenas.push_back({begin, begin + bytes.value()});
  state().current_arenas.store(&state().arenas.emplace_back(std::move(arenas)), std::memory_order_release);
  state().in_use.try_emplace(begin);
}

void withdraw_arena(const std::byte* begin, std::function<void()> release) {
  {
    const std::lock_guard lock(state().mutex);
    const auto arena = state().in_use.find(begin);
    MEMO_CHECK(arena != state().in_use.end() && !arena->second.release, "an arena is withdrawn once");
    arena->second.release = std::move(release);
    if (arena->second.blocks > 0) return;
    release = taken_out(arena);
  }
  release();
}

std::int64_t blocks_in_arena(const std::byte* begin) {
  const std::lock_guard lock(state().mutex);
  return state().in_use.at(begin).blocks;
}

void AllocationScope::enter() {
  outer_ = innermost;
  const std::lock_guard lock(state().mutex);
  state().scopes.push_back(this);
  innermost = this;
}

void AllocationScope::leave() {
  MEMO_CHECK(innermost == this, "allocation scopes of a thread end in reverse order");
  innermost = outer_;
  const std::lock_guard lock(state().mutex);
  std::erase(state().scopes, this);
}

RecordingScope::RecordingScope(c10::DeviceType device, std::size_t least) : AllocationScope(device), least_(least) {
  static std::atomic<std::uint64_t> recorders{0};
  recorder_ = ++recorders;
  enter();
}

RecordingScope::~RecordingScope() { leave(); }

void* RecordingScope::serve(std::size_t bytes, Heap& heap) {
  if (bytes < least_) return heap.allocate(bytes, 0);
  void* address = heap.allocate(bytes, recorder_);
  const std::lock_guard lock(state().mutex);
  events_.push_back({true, address, Bytes(static_cast<std::int64_t>(bytes))});
  return address;
}

bool RecordingScope::freed(const void* address, std::size_t bytes, std::uint64_t recorder) {
  if (recorder != recorder_) return false;
  events_.push_back({false, address, Bytes(static_cast<std::int64_t>(bytes))});
  return true;
}

PlannedScope::PlannedScope(const std::vector<PlannedRequest>& requests, c10::DeviceType device, std::size_t least)
    : AllocationScope(device), requests_(requests), least_(least) {
  for (const PlannedRequest& request : requests) {
    MEMO_CHECK(all_in_arena(request.address, static_cast<std::size_t>(request.bytes.value())),
               "planned addresses lie in a registered arena");
    MEMO_CHECK(reinterpret_cast<std::uintptr_t>(request.address) % allocation_alignment == 0,
               "planned addresses are aligned");
  }
  live_.reserve(requests.size());
  enter();
}

PlannedScope::~PlannedScope() { finish(); }

const std::vector<Departure>& PlannedScope::finish() {
  if (finished_) return departures_;
  leave();  // from here on no thread knows this scope
  finished_ = true;
  for (const Live& block : live_) {
    const PlannedRequest& request = requests_[block.planned];
    if (!request.outlives)
      departures_.push_back({Departure::Kind::outlived, block.request, request.bytes, request.bytes});
  }
  return departures_;
}

void* PlannedScope::serve(std::size_t bytes, Heap& heap) {
  void* address = bytes < least_ ? nullptr : planned_address(bytes);
  return address != nullptr ? address : heap.allocate(bytes, 0);
}

void* PlannedScope::planned_address(std::size_t bytes) {
  const std::lock_guard lock(state().mutex);
  const Bytes asked(static_cast<std::int64_t>(bytes));
  const int request = asked_++;
  const auto serves = [&](const PlannedRequest& planned) {
    return planned.bytes == asked || (planned.at_most && planned.bytes > asked);
  };
  if (next_ < requests_.size() && serves(requests_[next_])) {
    const PlannedRequest& planned = requests_[next_++];
    if (!in_use(planned)) {
      live_.push_back({request, next_ - 1});
      ++served_;
      ++arena_of(planned.address)->second.blocks;
      return planned.address;
    }
    departures_.push_back({Departure::Kind::address_in_use, request, asked, planned.bytes});
    return nullptr;
  }
  const auto first = requests_.begin() + static_cast<std::ptrdiff_t>(next_);
  departures_.push_back(
      {Departure::Kind::unplanned, request, asked, first == requests_.end() ? Bytes(0) : first->bytes});
  const auto later = std::find_if(first, requests_.end(), [&](const auto& planned) { return planned.bytes == asked; });
  if (later != requests_.end()) next_ = static_cast<std::size_t>(later - requests_.begin()) + 1;
  return nullptr;
}

bool PlannedScope::in_use(const PlannedRequest& wanted) const {
  return std::any_of(live_.begin(), live_.end(), [&](const Live& block) {
    const PlannedRequest& held = requests_[block.planned];
    return held.address < wanted.address + wanted.bytes.value() && wanted.address < held.address + held.bytes.value();
  });
}

bool PlannedScope::freed(const void* address, std::size_t, std::uint64_t recorder) {
  if (recorder != 0) return false;
  // From the back: recent allocations are most often freed first.
  const auto block = std::find_if(live_.rbegin(), live_.rend(),
                                  [&](const Live& live) { return requests_[live.planned].address == address; });
  if (block == live_.rend()) return false;
  *block = live_.back();
  live_.pop_back();
  return true;
}

std::string describe(const Departure& departure) {
  const std::string what =
      "allocation " + std::to_string(departure.request) + " of " + std::to_string(departure.asked.value()) + " bytes";
  switch (departure.kind) {
    case Departure::Kind::address_in_use:
      return what + " went to the heap: its planned address is still in use";
    case Departure::Kind::outlived:
      return what + " outlived its call: the plan has it as a transient";
    case Departure::Kind::unplanned:
      break;
  }
  if (departure.planned == Bytes(0)) return what + " went to the heap: the plan has no such request";
  return what + " went to the heap: the plan has " + std::to_string(departure.planned.value()) + " bytes";
}

}  // namespace memo::libtorch
