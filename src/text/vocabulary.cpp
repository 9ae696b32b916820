#include "text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace mxmla {

Vocabulary::Vocabulary(const std::vector<Token>& tokens, const std::string& subject) {
  int64_t largest = -1;
  size_t total = 0;
  for (const Token& token : tokens) {
    if (token.id < 0 || token.id > kLargestId) {
      Fail(ErrorCode::kTokenizer, subject, fmt::format("token ids from 0 to {}", kLargestId),
           fmt::format("id {} for token \"{}\"", token.id, token.bytes));
    }
    largest = std::max(largest, token.id);
    total += token.bytes.size();
  }
  if (total > UINT32_MAX) Fail(ErrorCode::kTokenizer, subject, "below 4 GiB of tokens", fmt::format("{} bytes", total));
  places_.resize(static_cast<size_t>(largest + 1));
  kinds_.resize(static_cast<size_t>(largest + 1), Kind::kNone);
  bytes_.reserve(total);
  for (const Token& token : tokens) {
    const auto id = static_cast<size_t>(token.id);
    if (kinds_[id] != Kind::kNone) {
      Fail(ErrorCode::kTokenizer, subject, "one token an id",
           fmt::format("id {} for \"{}\" and for \"{}\"", id, Bytes(static_cast<int32_t>(id)), token.bytes));
    }
    kinds_[id] = token.kind;
    places_[id] = {static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(token.bytes.size())};
    bytes_.insert(bytes_.end(), token.bytes.begin(), token.bytes.end());
  }
  for (const Token& token : tokens) {
    if (!token.is_findable) continue;
    const auto id = static_cast<int32_t>(token.id);
    find_.emplace(Bytes(id), id);
    longest_findable_ = std::max(longest_findable_, token.bytes.size());
  }
}

std::string_view Vocabulary::Bytes(int32_t id) const {
  if (id < 0 || id >= size()) return {};
  const auto [offset, length] = places_[static_cast<size_t>(id)];
  return {bytes_.data() + offset, length};
}

Vocabulary::Kind Vocabulary::KindOf(int32_t id) const {
  return id < 0 || id >= size() ? Kind::kNone : kinds_[static_cast<size_t>(id)];
}

std::optional<int32_t> Vocabulary::Find(std::string_view bytes) const {
  const auto found = find_.find(bytes);
  if (found == find_.end()) return std::nullopt;
  return found->second;
}

}  // namespace mxmla
