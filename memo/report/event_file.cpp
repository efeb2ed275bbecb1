// Encodes records, checksums and messages.
#include "memo/report/event_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <bit>
#include <fstream>

namespace memo::report {
namespace {

// Castagnoli's polynomial, reversed; bit by bit: a step's events are some hundred bytes.
std::uint32_t crc32c(std::string_view data) {
  std::uint32_t crc = ~0U;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82f63b78U : 0U);
  }
  return ~crc;
}

// TFRecord's mask, which keeps a CRC useful over data that contains CRCs.
std::uint32_t masked(std::uint32_t crc) { return std::rotr(crc, 15) + 0xa282ead8U; }

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

std::string record(const std::string& data) {
  const std::string length = little_endian(std::uint64_t{data.size()});
  return length + little_endian(masked(crc32c(length))) + data + little_endian(masked(crc32c(data)));
}

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

// Encodes fields of a message: key (number and wire type) and value.
std::string key(int field, int wire) { return varint(static_cast<std::uint64_t>(field << 3 | wire)); }
std::string integer(int field, std::uint64_t value) { return key(field, 0) + varint(value); }
std::string number(int field, double value) {
  return key(field, 1) + little_endian(std::bit_cast<std::uint64_t>(value));
}
std::string single(int field, float value) {
  return key(field, 5) + little_endian(std::bit_cast<std::uint32_t>(value));
}
std::string bytes(int field, std::string_view value) {
  return key(field, 2) + varint(value.size()) + std::string(value);
}

}  // namespace

Result<EventFile> EventFile::create(const Path& folder, double now) {
  MEMO_CHECKED(make_folder(folder));
  // TensorBoard reads files with "tfevents" in their names, in the order of the names.
  EventFile file(folder / fmt::format("events.out.tfevents.{:.6f}.{}.memo", now, ::getpid()));
  MEMO_CHECKED(file.append(number(1, now) + bytes(3, "brain.Event:2")));
  return file;
}

Status EventFile::add(std::int64_t step, double now, std::span<const Scalar> scalars) {
  std::string summary;  // values: tag = 1, simple_value = 2
  for (const Scalar& scalar : scalars)
    summary += bytes(1, bytes(1, scalar.tag) + single(2, static_cast<float>(scalar.value)));
  return append(number(1, now) + integer(2, static_cast<std::uint64_t>(step)) + bytes(5, summary));
}

Status EventFile::append(const std::string& event) {
  std::ofstream file(path_, std::ios::app | std::ios::binary);
  file << record(event);
  file.flush();
  if (!file) return run_time_error(path_.string() + ": cannot write: is the disk full?");
  return {};
}

}  // namespace memo::report
