// A GPU's description as text and JSON, and what will hurt training on it.
#include "memo/cli/gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "memo/base/text.h"

namespace memo::cli {
namespace {

constexpr Bytes gib(std::int64_t{1} << 30);

Seconds to_register(const Gpu::HostMemory& host, Bytes bytes) {
  return Seconds(host.seconds.value() * (bytes / host.bytes));
}

void find_of_copies(const exec::TierRates& rates, std::vector<Finding>& findings) {
  constexpr BytesPerSecond narrow(10e9);  // below PCIe 3.0 with 16 lanes, or 4.0 with 8
  constexpr double overlaps = 0.7, slows = 1.15;
  if (const BytesPerSecond slower = std::min(rates.write, rates.read); slower < narrow)
    findings.push_back({fmt::format("copies between the host and the GPU move {}, so little can be swapped in time",
                                    format_rate(slower)),
                        "see the link's generation and lanes in nvidia-smi -q (PCIe 4.0 with 16 lanes moves about 25 "
                        "GB/s each way); another slot or machine; the plan recomputes what it can't swap"});
  const double kept = std::min(rates.write_with_read / rates.write, rates.read_with_write / rates.read);
  if (kept < overlaps)
    findings.push_back({fmt::format("copies of both directions hinder each other: at once each keeps {:.0f} % of its "
                                    "rate at worst",
                                    100 * kept),
                        "on a machine of several sockets run on the GPU's own (numactl --cpunodebind, nvidia-smi topo "
                        "-m); in a virtual machine the host may share the link out"});
  if (rates.compute_slowdown > slows)
    findings.push_back({fmt::format("products take {:.2f} times as long while copies run", rates.compute_slowdown),
                        "none is needed: plans count with it"});
}

}  // namespace

std::vector<Finding> findings_on(const Gpu& gpu, const Memory& host) {
  std::vector<Finding> findings;
  if (const Bytes taken = gpu.total - gpu.free; taken > gpu.total / 16)
    findings.push_back({fmt::format("{} of the GPU's {} are taken, by other processes and by CUDA itself",
                                    format_bytes(taken), format_bytes(gpu.total)),
                        "end what nvidia-smi shows"});
  if (!gpu.host) {
    findings.push_back({gpu.host.error().message, "until then name a disk in [memory] disk instead of a host_limit"});
  } else {
    find_of_copies(gpu.host->rates, findings);
    if (const Seconds all = to_register(*gpu.host, gpu.total); all > Seconds(60))
      findings.push_back({fmt::format("a host tier of the GPU's size takes {} to map and register, at each start",
                                      format_seconds(all)),
                          "a smaller [memory] host_limit; huge pages make it faster"});
  }
  if (host.usable() < gpu.total)
    findings.push_back({fmt::format("the host has {} available, less than the GPU's {}: a host tier stays small",
                                    format_bytes(host.usable()), format_bytes(gpu.total)),
                        "more memory for the machine or container, or a disk in [memory] disk"});
  // A driver that has registered more than the limit does not heed it.
  const bool heeded = host.locked_limit && (!gpu.host || gpu.host->bytes <= *host.locked_limit);
  if (heeded && *host.locked_limit < host.usable())
    findings.push_back({fmt::format("only {} may be locked, and the driver may refuse to register more for a host tier",
                                    format_bytes(*host.locked_limit)),
                        "ulimit -l unlimited; of a container --ulimit memlock=-1"});
  if (host.shared && *host.shared < gib)
    findings.push_back({fmt::format("/dev/shm holds {}, too little for PyTorch's loaders and NCCL between processes",
                                    format_bytes(*host.shared)),
                        "of a container --shm-size=16g, or --ipc=host"});
  if (!has_nvme())
    findings.push_back({"there is no NVMe disk, and others are slow for a GPU's tensors",
                        "pass one through to the machine and name its folder in [memory] disk, or set host_limit"});
  for (const Gpu::Kernel& kernel : gpu.kernels)
    if (kernel.needed && !kernel.missing.empty())
      findings.push_back(
          {fmt::format("{} does not run on this GPU: {}", kernel.name, kernel.missing),
           "a build for its compute capability (CMAKE_CUDA_ARCHITECTURES), or another PyTorch for CUDA"});
  return findings;
}

nlohmann::ordered_json to_json(const exec::TierRates& rates) {
  return {{"write", rates.write.value()},
          {"read", rates.read.value()},
          {"write_with_read", rates.write_with_read.value()},
          {"read_with_write", rates.read_with_write.value()}};
}

nlohmann::ordered_json gpu_json(const Gpu& gpu) {
  nlohmann::ordered_json object{{"name", gpu.name},
                                {"compute_capability", gpu.capability},
                                {"driver", gpu.driver},
                                {"runtime", gpu.runtime},
                                {"visible", gpu.visible},
                                {"total_bytes", gpu.total.value()},
                                {"free_bytes", gpu.free.value()},
                                {"device_limit_bytes", gpu.limit.value()},
                                {"host_memory", nullptr},
                                {"kernels", nlohmann::ordered_json::array()}};
  if (gpu.host)
    object["host_memory"] = {{"registered_bytes", gpu.host->bytes.value()},
                             {"seconds", gpu.host->seconds.value()},
                             {"seconds_of_8_gib", to_register(*gpu.host, gib * 8).value()},
                             {"bytes_per_second", to_json(gpu.host->rates)},
                             {"bytes_per_second_with_compute",
                              {{"write_with_read", gpu.host->rates.write_with_compute.value()},
                               {"read_with_write", gpu.host->rates.read_with_compute.value()}}},
                             {"compute_slowdown", gpu.host->rates.compute_slowdown}};
  for (const Gpu::Kernel& kernel : gpu.kernels)
    object["kernels"].push_back(
        {{"name", kernel.name}, {"found", kernel.missing.empty()}, {"missing", kernel.missing}});
  return object;
}

std::string gpu_text(const Gpu& gpu) {
  std::string text = fmt::format("GPU            {}, compute capability {}, driver for CUDA {}, runtime {}", gpu.name,
                                 gpu.capability, gpu.driver, gpu.runtime);
  if (gpu.visible > 1) text += fmt::format("; the first of {} (CUDA_VISIBLE_DEVICES chooses)", gpu.visible);
  text += fmt::format("\n  memory       {} of {} free; without memory.device_limit a plan takes {}\n",
                      format_bytes(gpu.free), format_bytes(gpu.total), format_bytes(gpu.limit));
  if (gpu.host) {
    const exec::TierRates& r = gpu.host->rates;
    text += fmt::format("  copies       to the host {}, back {}; at once {} and {}\n", format_rate(r.write),
                        format_rate(r.read), format_rate(r.write_with_read), format_rate(r.read_with_write));
    text += fmt::format("  and products at once {} and {}, products {:.2f} times slower\n",
                        format_rate(r.write_with_compute), format_rate(r.read_with_compute), r.compute_slowdown);
    text += fmt::format("  registering  {} for 8 GiB of host memory", format_seconds(to_register(*gpu.host, gib * 8)));
    text += gpu.host->bytes == gib * 8 ? "\n" : fmt::format(", from {}\n", format_bytes(gpu.host->bytes));
  }
  for (const Gpu::Kernel& kernel : gpu.kernels)
    text += fmt::format("  {:<11}  {}: {}\n", &kernel == &gpu.kernels.front() ? "kernels" : "", kernel.name,
                        kernel.missing.empty() ? "found" : kernel.missing);
  return text;
}

}  // namespace memo::cli
