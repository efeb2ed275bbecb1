#include "memo/torch/added_tokens.h"

#include <algorithm>

namespace memo::edge {

void AddedTokens::add(std::string content, TokenId id) {
  if (content.empty()) return;
  std::vector<Added>& group = by_first_byte_[static_cast<unsigned char>(content.front())];
  const auto place = std::upper_bound(group.begin(), group.end(), content.size(),
                                      [](std::size_t size, const Added& a) { return size > a.content.size(); });
  group.insert(place, {std::move(content), id});
}

Status AddedTokens::split(std::string_view text, const std::function<Status(std::string_view)>& between,
                          const std::function<void(TokenId)>& found) const {
  std::size_t done = 0;
  const auto flush = [&](std::size_t end) { return end > done ? between(text.substr(done, end - done)) : Status(); };
  for (std::size_t i = 0; i < text.size();) {
    const std::vector<Added>& group = by_first_byte_[static_cast<unsigned char>(text[i])];
    const auto token = std::find_if(group.begin(), group.end(),
                                    [&](const Added& added) { return text.substr(i).starts_with(added.content); });
    if (token == group.end()) {
      ++i;
      continue;
    }
    MEMO_CHECKED(flush(i));
    found(token->id);
    done = i += token->content.size();
  }
  return flush(text.size());
}

}  // namespace memo::edge
