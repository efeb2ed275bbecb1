// config.json of a model folder: any bytes are a shape or a refusal; a shape is read back as it is written.
#include "memo/model/shape.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto shape = memo::model::read_config(memo::fuzz::folder_with("config.json", data, size));
  if (!memo::fuzz::accepted(shape)) return 0;
  const auto text = memo::model::config_text(*shape, memo::job::DType::float32);
  if (!memo::fuzz::accepted(text)) return 0;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text->data());
  if (!memo::model::read_config(memo::fuzz::folder_with("config.json", bytes, text->size()))) std::abort();
  return 0;
}
