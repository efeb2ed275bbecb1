// Bytes from a seed, as the content of tiers and arenas in tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace memo::exec {

inline std::vector<std::byte> random_bytes(std::uint64_t seed, std::size_t size) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

}  // namespace memo::exec
