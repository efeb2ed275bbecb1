// The stages of the packing, one after another.
#include "memo/report/columns.h"

#include <zlib.h>

#include <cstdlib>

#include "memo/base/check.h"

namespace memo::report {
namespace {

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

std::string deflated(const std::string& bytes) {
  uLongf size = compressBound(bytes.size());
  std::string out(size, '\0');
  const int status = compress2(reinterpret_cast<Bytef*>(out.data()), &size,
                               reinterpret_cast<const Bytef*>(bytes.data()), bytes.size(), Z_BEST_COMPRESSION);
  MEMO_CHECK(status == Z_OK, "zlib compresses into a buffer of the size it asked for");
  out.resize(size);
  return out;
}

}  // namespace

std::string base64(std::string_view bytes) {
  constexpr char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t triple = 0;
    for (std::size_t j = 0; j < 3; ++j)
      triple = triple << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    for (std::size_t j = 0; j < 4; ++j) out += i + j <= bytes.size() ? alphabet[triple >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

void Columns::add(const std::string& name, const std::vector<std::int64_t>& values) {
  constexpr std::int64_t largest = std::int64_t{1} << 53;
  names_.push_back({name, values.size()});
  std::int64_t before = 0;
  for (const std::int64_t value : values) {
    MEMO_CHECK(std::abs(value) <= largest, "a number of a report is an exact double");
    const std::int64_t step = value - before;
    put_varint(bytes_, static_cast<std::uint64_t>(step) << 1 ^ static_cast<std::uint64_t>(step >> 63));
    before = value;
  }
}

nlohmann::ordered_json Columns::json() const { return {{"columns", names_}, {"data", base64(deflated(bytes_))}}; }

}  // namespace memo::report
