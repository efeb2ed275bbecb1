// Times memo's packer: one line of CSV for each instance and seed, on one thread.
//   bench_pack [--capacity BYTES] [--time-limit SECONDS] [--seeds N] [--mip] FILE.csv...   packs files
//   bench_pack [--rounds N] [--time-limit SECONDS] --random BUFFERS...   packs random instances once
//   bench_pack [--rounds N] [--time-limit SECONDS] --graphs BUFFERS...   packs instances like a compiler's graphs once
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "memo/pack/csv.h"
#include "memo/report/caching_allocator.h"

namespace {

using memo::pack::Instance;

// Lives and sizes as in traces of training: many short lives, a few long ones; sizes in units of 512 bytes.
Instance random_instance(std::int64_t buffers) {
  std::mt19937_64 random(static_cast<std::uint64_t>(buffers));
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  Instance instance;
  for (std::int64_t i = 0; i < buffers; ++i) {
    const std::int64_t lower = below(buffers * 2);
    const std::int64_t length = i % 50 == 0 ? 1 + below(buffers / 4) : 1 + below(60);
    instance.push_back({lower, lower + length, 512 * (1 + below(64)), 1, {}});
  }
  return instance;
}

// Lives as in a compiler's graph of a training step: layers of operations, forward and then backward in the opposite
// order. Of the tensors of a layer some live from forward to backward, some are computed again for backward, most die
// after a few operations; parameters' gradients live from backward to the end, and some buffers for most of the step.
Instance graph_instance(std::int64_t buffers) {
  std::mt19937_64 random(static_cast<std::uint64_t>(buffers) + 1);
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  constexpr std::int64_t each = 60;  // tensors of a layer
  const std::int64_t layers = std::max<std::int64_t>(1, buffers / (2 * each)), end = 2 * layers * each;
  Instance instance;
  const auto add = [&](std::int64_t lower, std::int64_t upper, std::int64_t bytes) {
    instance.push_back({lower, std::min(std::max(upper, lower + 1), end + 1), bytes, 1, {}});
  };
  const auto bytes_of_tensor = [&] { return (std::int64_t{4096} << below(8)) * (1 + below(3)) + 512 * below(3); };
  for (std::int64_t layer = 0; layer < layers; ++layer)
    for (std::int64_t i = 0; i < each; ++i) {
      const std::int64_t forward = layer * each + i, backward = end - forward, bytes = bytes_of_tensor();
      const std::int64_t kind = below(100);
      if (kind < 20) {
        add(forward, backward, bytes);
      } else if (kind < 40) {
        add(forward, forward + 2 + below(12), bytes);
        add(backward - 2 - below(each), backward, bytes);
      } else {
        add(forward, forward + 1 + below(8), bytes);
      }
      if (kind < 4) add(backward, end, bytes_of_tensor());
      if (kind == 99) add(below(forward + 1), backward + below(forward + 1), 4 * bytes);
      add(backward, backward + 1 + below(8), bytes_of_tensor());
    }
  return instance;
}

std::int64_t resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

// What PyTorch's caching allocator would reserve for the same requests in order of time, frees first at equal times; a
// buffer with gaps in its life keeps its block.
std::int64_t reserved_bytes(const Instance& instance) {
  struct Event {
    std::int64_t time;
    bool starts;
    std::size_t buffer;
  };
  std::vector<Event> events;
  for (std::size_t i = 0; i < instance.size(); ++i) {
    events.push_back({instance[i].lower, true, i});
    events.push_back({instance[i].upper, false, i});
  }
  std::sort(events.begin(), events.end(),
            [](const Event& a, const Event& b) { return a.time != b.time ? a.time < b.time : a.starts < b.starts; });
  memo::report::CachingAllocator allocator;
  std::vector<memo::report::CachingAllocator::Handle> handles(instance.size());
  for (const Event& event : events) {
    if (event.starts)
      handles[event.buffer] = *allocator.allocate(memo::Bytes(instance[event.buffer].size));
    else
      allocator.free(handles[event.buffer]);
  }
  return allocator.peak_reserved().value();
}

void print(const std::string& name, const Instance& instance, const memo::pack::Options& options) {
  static constexpr const char* outcomes[] = {"optimal", "feasible", "infeasible", "timeout"};
  const std::int64_t before = resident_bytes();
  const memo::pack::Packing packing = memo::pack::pack(instance, options);
  const std::int64_t bytes = resident_bytes() - before;
  if (!packing.offsets.empty() && !memo::pack::validate(instance, packing.offsets, packing.peak).empty()) {
    fmt::print(stderr, "{}: the packing is not valid\n", name);
    std::exit(1);
  }
  fmt::print("{},{},{},{},{},{},{:.4f},{},{},{}\n", name, instance.size(), options.seed,
             outcomes[static_cast<int>(packing.outcome)], packing.peak, packing.lower_bound, packing.seconds,
             bytes / static_cast<std::int64_t>(std::max<std::size_t>(1, instance.size())),
             memo::pack::max_live_bytes(instance), reserved_bytes(instance));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  memo::pack::Options options;
  std::uint64_t seeds = 1;
  Instance (*made)(std::int64_t buffers) = nullptr;
  fmt::print(
      "instance,buffers,seed,status,peak,lower_bound,seconds,new_bytes_per_buffer,live_bytes,caching_allocator_"
      "reserved\n");
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string("0"); };
    if (argument == "--capacity") {
      options.capacity = std::stoll(value());
    } else if (argument == "--time-limit") {
      options.time_limit = std::stod(value());
    } else if (argument == "--seeds") {
      seeds = std::stoull(value());
    } else if (argument == "--rounds") {
      options.rounds = std::stoll(value());
    } else if (argument == "--mip") {
      options.method = memo::pack::Method::mip;
    } else if (argument == "--random") {
      made = random_instance;
    } else if (argument == "--graphs") {
      made = graph_instance;
    } else if (made != nullptr) {
      print(made == graph_instance ? "graph" : "random", made(std::stoll(argument)), options);
    } else {
      const auto csv = memo::pack::read_csv(argument);
      if (!csv) {
        fmt::print(stderr, "{}\n", csv.error().message);
        return 2;
      }
      for (options.seed = 1; options.seed <= seeds; ++options.seed)
        print(memo::Path(argument).stem().string(), csv->instance, options);
    }
  }
  return 0;
}
