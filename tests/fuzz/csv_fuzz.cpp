// libFuzzer on the CSV reader: no bytes may crash it, and every table that it accepts packs into a valid packing.
// Csv.SurvivesAnyBytes (tests/pack) is a bounded version of it for every build.
#include <cstdlib>

#include "memo/pack/csv.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto csv = memo::pack::parse_csv(std::string(reinterpret_cast<const char*>(data), size), "in.csv");
  if (!csv) {
    if (csv.error().message.find('\n') != std::string::npos) std::abort();
    return 0;
  }
  memo::pack::Options options;
  options.rounds = 6;
  const memo::pack::Packing packing = memo::pack::pack(csv->instance, options);
  if (!memo::pack::validate(csv->instance, packing.offsets, packing.peak).empty()) std::abort();
  if (!memo::pack::parse_csv(memo::pack::format_csv(*csv, packing.offsets), "out.csv")) std::abort();
  return 0;
}
