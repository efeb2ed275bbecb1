// A checkpoint's manifest and state: any bytes are accepted or refused, and no name leaves the folder.
#include "memo/store/checkpoint_files.h"
#include "memo/store/manifest.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace memo;
  const Path folder = fuzz::folder_with("manifest.json", data, size);
  if (const auto files = store::read_manifest(folder); fuzz::accepted(files)) {
    for (const store::FileSum& file : *files)
      if (file.bytes < 0 || (folder / file.name).parent_path() != folder) std::abort();
    fuzz::accepted(store::verify_files(folder));
  }
  fuzz::accepted(store::read_state(fuzz::folder_with("state.json", data, size)));
  return 0;
}
