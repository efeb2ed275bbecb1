// Packed columns: base64 by its standard, every value kept, regular columns small.
#include "memo/report/columns.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "memo/base/json.h"

namespace memo::report {
namespace {

TEST(Base64, IsThatOfRfc4648) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

std::string decoded(const std::string& text) {
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(alphabet.find(c));
    count += 6;
    if (count >= 8) bytes += static_cast<char>(bits >> (count -= 8));
  }
  return bytes;
}

std::string inflated(const std::string& bytes) {
  std::string out(1 << 22, '\0');
  uLongf size = out.size();
  EXPECT_EQ(uncompress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
                       bytes.size()),
            Z_OK);
  out.resize(size);
  return out;
}

std::vector<std::int64_t> read(const std::string& bytes) {
  std::vector<std::int64_t> values;
  std::int64_t value = 0;
  for (std::size_t i = 0; i < bytes.size();) {
    std::uint64_t code = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes[i++]);
      code |= static_cast<std::uint64_t>(byte & 127) << shift;
      if (byte < 128) break;
    }
    value += static_cast<std::int64_t>(code >> 1) ^ -static_cast<std::int64_t>(code & 1);
    values.push_back(value);
  }
  return values;
}

TEST(Columns, KeepEveryValue) {
  const std::vector<std::int64_t> values{0, 1, -1, 127, 128, -129, std::int64_t{1} << 53, 0, -(std::int64_t{1} << 53),
                                         7};
  Columns columns;
  columns.add("all", values);
  const auto json = columns.json();
  EXPECT_EQ(json_text(json["columns"]), R"([["all",10]])");
  EXPECT_EQ(read(inflated(decoded(json["data"]))), values);
}

TEST(Columns, RegularOnesAreSmall) {
  std::vector<std::int64_t> values;
  for (int i = 0; i < 100'000; ++i) values.push_back(std::int64_t{65536} * (i % 4) + (i / 256) * 1'000'000LL);
  Columns columns;
  columns.add("offset", values);
  EXPECT_LT(columns.json()["data"].get<std::string>().size(), 4'000U);
}

}  // namespace
}  // namespace memo::report
