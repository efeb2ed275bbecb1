// Weights from strangers: a header that is accepted names bytes that can be read.
#include <vector>

#include "memo/store/safetensors.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const memo::fuzz::File file(data, size);
  const auto files = memo::store::TensorFiles::open_file(file.path());
  if (!memo::fuzz::accepted(files)) return 0;
  for (const auto& [name, entry] : files->tensors()) {
    if (entry.bytes > memo::Bytes(static_cast<std::int64_t>(size))) std::abort();
    std::vector<std::byte> bytes(static_cast<std::size_t>(entry.bytes.value()));
    if (!files->read(name, 0, bytes)) std::abort();
  }
  return 0;
}
