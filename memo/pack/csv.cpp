// Reads MiniMalloc's columns under their various names, and writes the offsets back.
#include "memo/pack/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string_view>

#include "memo/base/text.h"

namespace memo::pack {
namespace {

constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();

enum Column { id, lower, upper, size, alignment, offset, hint, gaps, column_count };
struct Name {
  std::string_view text;
  Column column;
};
constexpr std::array<Name, 13> names{{{"id", id},
                                      {"buffer", id},
                                      {"buffer_id", id},
                                      {"lower", lower},
                                      {"begin", lower},
                                      {"start", lower},
                                      {"upper", upper},
                                      {"end", upper},
                                      {"size", size},
                                      {"alignment", alignment},
                                      {"offset", offset},
                                      {"hint", hint},
                                      {"gaps", gaps}}};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  return text;
}

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  for (;;) {
    const std::size_t comma = line.find(',');
    cells.push_back(trimmed(line.substr(0, comma)));
    if (comma == std::string_view::npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

std::string joined(const std::vector<std::string_view>& parts, std::string_view separator) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += separator;
    text += parts[i];
  }
  return text;
}

// Shortens any bytes to a few printable ones, for a one-line message.
std::string shown(std::string_view cell) {
  std::string text(cell.substr(0, 40));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
  return "'" + text + (cell.size() > 40 ? "..." : "") + "'";
}

class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {}

  Result<Csv> read(std::string_view text) {
    if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);  // a byte order mark
    for (line_ = 1; !text.empty(); ++line_) {
      const std::size_t length = text.find('\n');
      const std::string_view line = trimmed(text.substr(0, length));
      text.remove_prefix(length == std::string_view::npos ? text.size() : length + 1);
      if (line.empty()) continue;
      if (columns_.empty()) {
        MEMO_CHECKED(header(line));
      } else {
        MEMO_CHECKED(row(line));
      }
    }
    if (columns_.empty()) {
      line_ = 1;
      return error("is empty; write a header such as 'id,lower,upper,size' and one line per buffer");
    }
    MEMO_CHECKED(no_fixed_overlaps());
    return std::move(csv_);
  }

 private:
  [[nodiscard]] tl::unexpected<Error> error(const std::string& what) const {
    return bad_input(fmt::format("{}:{}: {}", name_, line_, what));
  }

  Status header(std::string_view line) {
    where_.fill(none);
    for (const std::string_view cell : cells_of(line)) {
      const auto* found = std::find_if(names.begin(), names.end(), [&](const Name& n) { return n.text == cell; });
      if (found == names.end()) {
        std::vector<std::string> known;
        known.reserve(names.size());
        for (const Name& n : names) known.emplace_back(n.text);
        const std::string near = nearest_name(cell, known);
        return error(fmt::format(
            "unknown column {}; {}", shown(cell),
            near.empty() ? "known are " + joined({known.begin(), known.end()}, ", ") : "did you mean '" + near + "'?"));
      }
      std::size_t& where = where_[found->column];
      if (where != none)
        return error(fmt::format("columns '{}' and '{}' say the same; remove one", names_[where], cell));
      where = columns_.size();
      names_.emplace_back(cell);
      columns_.push_back(found->column);
    }
    for (const Column required : {id, lower, upper, size})
      if (where_[required] == none) return error(fmt::format("column '{}' is missing", names_of(required)));
    csv_.header = line;
    if (where_[offset] != none) csv_.offset = where_[offset];
    return {};
  }

  static std::string names_of(Column column) {
    std::vector<std::string_view> all;
    for (const Name& n : names)
      if (n.column == column) all.push_back(n.text);
    return joined(all, "' or '");
  }

  Status row(std::string_view line) {
    const std::vector<std::string_view> cells = cells_of(line);
    if (cells.size() != columns_.size())
      return error(fmt::format("{} cells under {} columns", cells.size(), columns_.size()));
    Buffer b;
    MEMO_TRY(b.lower, number(cells, lower, 0));
    MEMO_TRY(b.upper, number(cells, upper, 0));
    if (names_[where_[upper]] == "end") {
      if (b.upper == largest) return error("'end' is too large");
      ++b.upper;
    }
    if (b.lower >= b.upper)
      return error(fmt::format("the buffer is never alive: '{}' is {} and '{}' is {}", names_[where_[lower]],
                               cells[where_[lower]], names_[where_[upper]], cells[where_[upper]]));
    MEMO_TRY(b.size, number(cells, size, 1));
    if (filled(cells, alignment)) {
      MEMO_TRY(b.alignment, number(cells, alignment, 1));
    }
    if (filled(cells, offset)) {
      MEMO_TRY(b.fixed, number(cells, offset, 0));
      if (*b.fixed % b.alignment != 0)
        return error(fmt::format("fixed offset {} is not a multiple of the alignment {}", *b.fixed, b.alignment));
    }
    if (filled(cells, gaps)) MEMO_CHECKED(pauses(cells[where_[gaps]], b));
    if (!within_63_bits(b)) return error("all sizes together overflow 63 bits; use larger units");
    csv_.instance.push_back(b);
    csv_.rows.emplace_back(line);
    lines_.push_back(line_);
    return {};
  }

  // Reads pairs `from-to`, separated by spaces; `to` is exclusive or inclusive, like the end of the life.
  Status pauses(std::string_view cell, Buffer& b) {
    for (std::string_view rest = cell; !rest.empty();) {
      const std::size_t length = std::min(rest.find(' '), rest.size());
      const std::string_view pair = rest.substr(0, length);
      rest = trimmed(rest.substr(length));
      const std::size_t dash = std::min(pair.find('-'), pair.size());
      Gap gap;
      if (dash == pair.size() || !whole(pair.substr(0, dash), gap.lower) || !whole(pair.substr(dash + 1), gap.upper))
        return error(fmt::format("'gaps' has {}; expected pairs such as 3-5, with spaces between them", shown(pair)));
      if (names_[where_[upper]] == "end" && gap.upper < b.upper) ++gap.upper;
      if (gap.lower >= gap.upper || gap.lower < b.lower || gap.upper > b.upper)
        return error(fmt::format("gap {} is empty or not inside of the life", shown(pair)));
      b.gaps.push_back(gap);
    }
    std::sort(b.gaps.begin(), b.gaps.end(), [](const Gap& x, const Gap& y) { return x.lower < y.lower; });
    for (std::size_t i = 1; i < b.gaps.size(); ++i)
      if (b.gaps[i].lower <= b.gaps[i - 1].upper)
        return error(fmt::format("gaps {}-{} and {}-{} touch or overlap; make one of them", b.gaps[i - 1].lower,
                                 b.gaps[i - 1].upper, b.gaps[i].lower, b.gaps[i].upper));
    if (!b.gaps.empty() && b.gaps.front().lower == b.lower) {  // a gap at an end of the life shortens the life
      b.lower = b.gaps.front().upper;
      b.gaps.erase(b.gaps.begin());
    }
    if (!b.gaps.empty() && b.gaps.back().upper == b.upper) {
      b.upper = b.gaps.back().lower;
      b.gaps.pop_back();
    }
    if (b.lower >= b.upper) return error("the buffer is never alive: its gaps cover its life");
    return {};
  }

  static bool whole(std::string_view text, std::int64_t& value) {
    const auto [rest, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    return failure == std::errc() && rest == text.data() + text.size() && value >= 0;
  }

  [[nodiscard]] bool filled(const std::vector<std::string_view>& cells, Column column) const {
    return where_[column] != none && !cells[where_[column]].empty();
  }

  [[nodiscard]] Result<std::int64_t> number(const std::vector<std::string_view>& cells, Column column,
                                            std::int64_t least) const {
    const std::string_view cell = cells[where_[column]];
    std::int64_t value = 0;
    if (!whole(cell, value) || value < least)
      return error(fmt::format("'{}' is {}; expected a whole number from {} to {}", names_[where_[column]], shown(cell),
                               least, largest));
    return value;
  }

  // A packing that wastes less than one alignment for each buffer, above the highest fixed end, must not overflow.
  // Fixed buffers lie below that end.
  bool within_63_bits(const Buffer& b) {
    std::int64_t end = 0, sum = 0;
    if (b.fixed && __builtin_add_overflow(*b.fixed, b.size, &end)) return false;
    highest_fixed_end_ = std::max(highest_fixed_end_, end);
    return !__builtin_add_overflow(padded_sizes_, b.fixed ? 0 : b.size, &padded_sizes_) &&
           !__builtin_add_overflow(padded_sizes_, b.alignment, &padded_sizes_) &&
           !__builtin_add_overflow(padded_sizes_, highest_fixed_end_, &sum);
  }

  Status no_fixed_overlaps() {
    Instance fixed;
    std::vector<std::int64_t> offsets;
    std::vector<std::size_t> lines;
    for (std::size_t i = 0; i < csv_.instance.size(); ++i) {
      const Buffer& b = csv_.instance[i];
      if (!b.fixed) continue;
      fixed.push_back(b);
      offsets.push_back(*b.fixed);
      lines.push_back(lines_[i]);
    }
    for (const auto& [a, b] : overlaps(fixed, offsets, 1)) {
      line_ = std::max(lines[a], lines[b]);
      return error(fmt::format("fixed offset overlaps, in time and address, with that of line {}; move one of them",
                               std::min(lines[a], lines[b])));
    }
    return {};
  }

  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  const std::string& name_;
  std::size_t line_ = 1;
  Csv csv_;
  std::vector<Column> columns_;
  std::vector<std::string> names_;  // names of the columns, as written
  std::array<std::size_t, column_count> where_{};
  std::vector<std::size_t> lines_;  // line of each row
  std::int64_t padded_sizes_ = 0, highest_fixed_end_ = 0;
};

}  // namespace

Result<Csv> parse_csv(const std::string& text, const std::string& name) { return Reader(name).read(text); }

Result<Csv> read_csv(const Path& path) {
  MEMO_TRY(const std::string text, read_text(path));
  return parse_csv(text, path.string());
}

std::string format_csv(const Csv& csv, const std::vector<std::int64_t>& offsets) {
  std::string text = csv.header + (csv.offset ? "\n" : ",offset\n");
  for (std::size_t i = 0; i < csv.rows.size(); ++i) {
    if (!csv.offset) {
      text += fmt::format("{},{}\n", csv.rows[i], offsets[i]);
      continue;
    }
    std::vector<std::string_view> cells = cells_of(csv.rows[i]);
    const std::string value = std::to_string(offsets[i]);
    cells[*csv.offset] = value;
    text += joined(cells, ",") + "\n";
  }
  return text;
}

}  // namespace memo::pack
