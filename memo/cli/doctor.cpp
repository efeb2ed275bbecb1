// memo doctor: shows the machine's resources, and for each problem how to fix it.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "memo/base/json.h"
#include "memo/base/text.h"
#include "memo/cli/gpu.h"
#include "memo/cli/verb.h"

namespace memo::cli {
namespace {

using MaybeGpu = std::optional<Result<Gpu>>;

std::vector<Finding> findings_on(const Machine& m) {
  std::vector<Finding> findings;
  if (m.memory.available < m.memory.total / 4)
    findings.push_back({fmt::format("only {} of {} memory is available", format_bytes(m.memory.available),
                                    format_bytes(m.memory.total)),
                        "close other programs, or lower [memory] device_limit"});
  if (m.memory.limit)
    findings.push_back({fmt::format("the container may use {} of {} memory", format_bytes(*m.memory.limit),
                                    format_bytes(m.memory.total)),
                        "keep [memory] device_limit well below that, or raise the container's limit"});
  if (m.huge_pages == "never")
    findings.push_back({"transparent huge pages are off, so large buffers cost many page faults",
                        "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"});
  if (m.numa_nodes > 1)
    findings.push_back({fmt::format("{} NUMA nodes: memory of another node is slower", m.numa_nodes),
                        "run under numactl --cpunodebind=0 --membind=0"});
  if (!m.io_uring)
    findings.push_back({"the kernel grants no io_uring, so disk copies go one request at a time",
                        "sysctl kernel.io_uring_disabled=0, or a container profile that allows io_uring"});
  if (m.nvidia && !trains_on_gpus())
    findings.push_back({"there is an NVIDIA device, but this build has no CUDA backend: training runs on the CPU",
                        "build with nvcc and a LibTorch of CUDA, then make cuda"});
  return findings;
}

std::vector<Finding> findings_on(const Disk& d, const Path& folder) {
  std::vector<Finding> findings;
  if (d.free < Bytes(20LL << 30))
    findings.push_back(
        {fmt::format("{} has {} free, and long contexts fill tens of GiB", folder.string(), format_bytes(d.free)),
         "free space, or name a larger disk in [memory] disk"});
  const BytesPerSecond both = std::min(d.rates.write_with_read, d.rates.read_with_write);
  if (both < BytesPerSecond(200e6))
    findings.push_back({fmt::format("the disk of {} moves only {} each way at once, so little can be swapped in time",
                                    folder.string(), format_rate(both)),
                        "name a folder on a faster disk in [memory] disk; the plan recomputes what it can't swap"});
  return findings;
}

void print_json(const Machine& m, const MaybeGpu& gpu, const Path& folder, const Result<Disk>& disk,
                const std::vector<Finding>& findings) {
  nlohmann::ordered_json object{{"cores", m.cores},
                                {"memory",
                                 {{"total_bytes", m.memory.total.value()},
                                  {"available_bytes", m.memory.available.value()},
                                  {"limit_bytes", nullptr},
                                  {"copy_bytes_per_second", m.memory_copy.value()}}},
                                {"locked_memory_bytes", nullptr},
                                {"numa_nodes", m.numa_nodes},
                                {"transparent_huge_pages", m.huge_pages},
                                {"io_uring", m.io_uring},
                                {"gpu", {{"supported", trains_on_gpus()}, {"nvidia_present", m.nvidia}}},
                                {"disk", {{"folder", folder.string()}}},
                                {"findings", nlohmann::json::array()}};
  if (m.memory.limit) object["memory"]["limit_bytes"] = m.memory.limit->value();
  if (m.memory.locked_limit) object["locked_memory_bytes"] = m.memory.locked_limit->value();
  if (gpu && *gpu) object["gpu"].update(gpu_json(**gpu));
  if (gpu && !*gpu) object["gpu"]["error"] = gpu->error().message;
  if (disk) {
    object["disk"]["free_bytes"] = disk->free.value();
    object["disk"]["bytes_per_second"] = to_json(disk->rates);
    object["disk"]["bytes_per_second_with_compute"] = to_json(disk->rates_with_compute);
    object["disk"]["compute_slowdown"] = disk->rates.compute_slowdown;
  }
  for (const Finding& f : findings) object["findings"].push_back({{"what", f.what}, {"fix", f.fix}});
  fmt::print("{}\n", json_text(object));
}

void print_rates(const char* when, const exec::TierRates& r) {
  fmt::print("{:<15}write {}, read {}; at once {} and {}\n", when, format_rate(r.write), format_rate(r.read),
             format_rate(r.write_with_read), format_rate(r.read_with_write));
}

void print_text(const Machine& m, const MaybeGpu& gpu, const Path& folder, const Result<Disk>& disk,
                const std::vector<Finding>& findings) {
  fmt::print("cores          {}\n", m.cores);
  fmt::print("memory         {}, {} available\n", format_bytes(m.memory.total), format_bytes(m.memory.available));
  fmt::print("memory copy    {} (one thread)\n", format_rate(m.memory_copy));
  fmt::print("locked memory  {}\n", m.memory.locked_limit ? format_bytes(*m.memory.locked_limit) : "no limit");
  fmt::print("NUMA nodes     {}\n", m.numa_nodes);
  fmt::print("huge pages     {}\n", m.huge_pages.empty() ? "unknown" : m.huge_pages);
  if (gpu && *gpu)
    fmt::print("{}", gpu_text(**gpu));
  else if (gpu)
    fmt::print("GPU            none to train on\n");
  else
    fmt::print("GPU            {}; this build {}\n", m.nvidia ? "NVIDIA" : "none found",
               trains_on_gpus() ? "has the CUDA backend" : "supports none and runs on the CPU");
  if (disk) {
    fmt::print("disk           {}, {} free\n", folder.string(), format_bytes(disk->free));
    print_rates("  idle cores", disk->rates);
    print_rates("  busy cores", disk->rates_with_compute);
    fmt::print("  compute      {:.2f} times slower while both copies run\n", disk->rates.compute_slowdown);
  }
  fmt::print("\n{}\n", findings.empty() ? "Nothing found that will hurt." : "What will hurt:");
  for (const Finding& f : findings) fmt::print("- {}. Fix: {}.\n", f.what, f.fix);
}

Status doctor(const Path& folder, bool json) {
  if (!std::filesystem::is_directory(folder))
    return bad_input(fmt::format("{}: is not a folder; name one with --disk", folder.string()));
  const Memory memory = look_at_memory();
  const MaybeGpu gpu = look_at_gpu(memory);  // first, since another command may take over
  const Machine machine = look_at_machine();
  const Result<Disk> disk = measure_disk(folder, machine.cores);
  std::vector<Finding> findings = findings_on(machine);
  if (disk) {
    const std::vector<Finding> more = findings_on(*disk, folder);
    findings.insert(findings.end(), more.begin(), more.end());
  } else {
    findings.push_back({disk.error().message, "without [memory] disk, the plan recomputes instead of swapping"});
  }
  if (gpu && *gpu) {
    const std::vector<Finding> more = findings_on(**gpu, memory);
    findings.insert(findings.end(), more.begin(), more.end());
  }
  if (gpu && !*gpu) findings.push_back({gpu->error().message, "until then memory.device = \"cpu\""});
  (json ? print_json : print_text)(machine, gpu, folder, disk, findings);
  return {};
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  struct Arguments {
    std::string disk = "/var/tmp";
    bool json = false;
  };
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* verb = app.add_subcommand("doctor", "Measure what this machine offers and say what will hurt");
  verb->add_option("--disk", arguments->disk, "Folder of the disk tier to measure")
      ->type_name("DIR")
      ->capture_default_str();
  verb->add_flag("--json", arguments->json, "Print one JSON object");
  verb->callback([arguments, &action] { action = [arguments] { return doctor(arguments->disk, arguments->json); }; });
}

}  // namespace memo::cli
