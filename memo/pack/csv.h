// MiniMalloc's CSV: a header, then one buffer a line. Columns in any order:
//   id                      any text without a comma (also: buffer, buffer_id)
//   lower (begin, start)    first time alive
//   upper | end             first time dead | last time alive
//   size                    bytes
//   alignment               optional; of the offset; empty: 1
//   offset                  optional; the address it must have; empty: free
//   hint                    optional; kept, not used
//   gaps                    optional; pauses in the life: pairs such as `3-5 8-9`, each end as in `upper` or `end`
// MiniMalloc's gaps with a window (`3-5@0:8`, a buffer that shrinks for a while) are not supported.
#pragma once

#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/pack/pack.h"

namespace memo::pack {

struct Csv {
  Instance instance;
  std::string header;
  std::vector<std::string> rows;      // as read, one per buffer
  std::optional<std::size_t> offset;  // the column that holds offsets
};

// Parses the text of the file `name`; an error is one line with the file and the line number.
Result<Csv> parse_csv(const std::string& text, const std::string& name);
Result<Csv> read_csv(const Path& path);

// Writes the same table with the offsets in its `offset` column, which is added as the last one if missing.
std::string format_csv(const Csv& csv, const std::vector<std::int64_t>& offsets);

}  // namespace memo::pack
