// Replaces Infinity, -Infinity and NaN by strings that begin with a NUL on the way to the library's parser and writer,
// which know finite numbers alone.
#include "memo/base/python_json.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "memo/base/json.h"
#include "memo/base/stand_in.h"

namespace memo {
namespace {

using nlohmann::json;

struct Special {
  std::string_view name;
  double value;
};
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::array<Special, 3> specials{
    {{"-Infinity", -infinity}, {"Infinity", infinity}, {"NaN", std::numeric_limits<double>::quiet_NaN()}}};

std::string marked(std::string_view name) { return fmt::format("{}{}", '\0', name); }
std::string as_json(std::string_view name) { return fmt::format("\"\\u0000{}\"", name); }

// Turns names outside of strings into strings.
std::string with_strings(std::string_view text) {
  std::string result;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      result.append(text.substr(i++, 2));
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    const Special* found = nullptr;
    for (const Special& special : specials)
      if (!in_string && found == nullptr && text.substr(i).starts_with(special.name)) found = &special;
    if (found == nullptr) {
      result.push_back(text[i]);
    } else {
      result.append(as_json(found->name));
      i += found->name.size() - 1;
    }
  }
  return result;
}

std::optional<double> special_value(const json& value) {
  if (value.is_string())
    for (const Special& special : specials)
      if (value.get_ref<const std::string&>() == marked(special.name)) return special.value;
  return std::nullopt;
}

// Calls f for every number and string of the document, without recursion, since it may nest deeper than the stack.
template <class F>
void for_leaves(json& document, const F& f) {
  std::vector<json*> waiting{&document};
  while (!waiting.empty()) {
    json& value = *waiting.back();
    waiting.pop_back();
    if (value.is_structured())
      for (json& inner : value) waiting.push_back(&inner);
    else
      f(value);
  }
}

}  // namespace

Result<json> parse_python_json(std::string_view text, const Path& where) {
  try {
    json value = json::parse(with_strings(text));
    for_leaves(value, [](json& leaf) {
      if (const auto number = special_value(leaf)) leaf = *number;
    });
    return value;
  } catch (const json::exception& error) {
    const std::string instead = stand_in(text);
    return bad_input(
        fmt::format("{}: {}", where.string(), instead.empty() ? "not JSON: " + std::string(error.what()) : instead));
  }
}

Result<json> read_python_json(const Path& path) {
  MEMO_TRY(const std::string text, read_text(path));
  return parse_python_json(text, path);
}

std::string python_json_text(const json& value, int indent) {
  json copy = value;
  bool any = false;
  for_leaves(copy, [&](json& leaf) {
    if (!leaf.is_number_float() || std::isfinite(leaf.get<double>())) return;
    any = true;
    const double number = leaf.get<double>();
    leaf = marked(std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity");
  });
  std::string text = json_text(copy, indent);
  for (const Special& special : specials) {
    const std::string quoted = as_json(special.name);
    for (std::size_t at = 0; any && (at = text.find(quoted, at)) != std::string::npos;)
      text.replace(at, quoted.size(), special.name);
  }
  return text;
}

}  // namespace memo
