#include "text/added_tokens.h"

#include <algorithm>

#include "text/utf8.h"

namespace mxmla {

void AddedTokens::Trie::Insert(std::string_view content, size_t token) {
  size_t node = 0;
  for (char c : content) {
    const auto byte = static_cast<unsigned char>(c);
    const auto found = nodes_[node].children.find(byte);
    if (found != nodes_[node].children.end()) {
      node = found->second;
      continue;
    }
    const size_t child = nodes_.size();
    nodes_[node].children.emplace(byte, child);
    nodes_.emplace_back();
    node = child;
  }
  nodes_[node].token = token;
}

std::optional<size_t> AddedTokens::Trie::Longest(std::string_view text, size_t offset, size_t* length) const {
  std::optional<size_t> longest;
  size_t node = 0;
  for (size_t at = offset; at < text.size(); ++at) {
    const auto found = nodes_[node].children.find(static_cast<unsigned char>(text[at]));
    if (found == nodes_[node].children.end()) break;
    node = found->second;
    if (nodes_[node].token) {
      longest = nodes_[node].token;
      *length = at + 1 - offset;
    }
  }
  return longest;
}

AddedTokens::AddedTokens() : AddedTokens(std::vector<AddedToken>()) {}

std::vector<std::string> AddedTokens::Contents(const std::vector<AddedToken>& tokens) {
  std::vector<std::string> contents;
  for (const AddedToken& token : tokens) contents.push_back(token.content);
  return contents;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : AddedTokens(tokens, Contents(tokens)) {}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const std::vector<std::string>& spellings)
    : tokens_(std::move(tokens)),
      word_(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}])", "the word boundary of added tokens") {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    ids_.emplace(tokens_[i].content, tokens_[i].id);
    if (!tokens_[i].is_normalized) {
      raw_.Insert(tokens_[i].content, i);
    } else if (!spellings[i].empty()) {
      normalized_.Insert(spellings[i], i);
    }
  }
}

std::optional<int32_t> AddedTokens::Find(std::string_view content) const {
  const auto found = ids_.find(std::string(content));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

bool AddedTokens::IsWordAt(std::string_view text, size_t offset) const { return word_.MatchesAt(text, offset); }

void AddedTokens::SplitBy(const Trie& trie, std::string_view text, size_t offset, std::span<const Span> ordinary,
                          size_t base, std::vector<Segment>* segments) const {
  size_t done = 0;
  const auto push_text = [&](size_t end) {
    if (done < end) segments->push_back({-1, {offset + done, offset + end}});
  };
  // The first range that does not end before the current place.
  auto range = std::partition_point(ordinary.begin(), ordinary.end(),
                                    [&](const Span& span) { return span.end <= base + offset; });
  for (size_t at = 0; at < text.size();) {
    while (range != ordinary.end() && range->end <= base + offset + at) ++range;
    size_t limit = text.size();
    if (range != ordinary.end()) {
      if (range->begin <= base + offset + at) {
        at = std::min(range->end - base - offset, text.size());
        continue;
      }
      limit = std::min(limit, range->begin - base - offset);
    }
    size_t length = 0;
    std::optional<size_t> found;
    if (trie.CanBegin(static_cast<unsigned char>(text[at]))) found = trie.Longest(text.substr(0, limit), at, &length);
    if (!found) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[*found];
    size_t begin = at;
    size_t end = at + length;
    at = end;
    if (token.is_single_word &&
        ((begin > 0 && IsWordAt(text, PreviousOffset(text, begin))) || (end < text.size() && IsWordAt(text, end)))) {
      continue;
    }
    if (token.strips_left) {
      while (begin > done) {
        const size_t previous = PreviousOffset(text, begin);
        if (!IsWhiteSpace(CodePointAt(text, previous).value)) break;
        begin = previous;
      }
    }
    if (token.strips_right) {
      while (end < text.size()) {
        const CodePoint c = CodePointAt(text, end);
        if (!IsWhiteSpace(c.value)) break;
        end += c.length;
      }
    }
    push_text(begin);
    segments->push_back({token.id, {offset + begin, offset + end}});
    done = std::max(done, end);
  }
  push_text(text.size());
}

std::vector<AddedTokens::Segment> AddedTokens::SplitRaw(std::string_view text, std::span<const Span> ordinary,
                                                        size_t base) const {
  std::vector<Segment> segments;
  SplitBy(raw_, text, 0, ordinary, base, &segments);
  return segments;
}

std::vector<AddedTokens::Segment> AddedTokens::SplitNormalized(std::string_view text) const {
  std::vector<Segment> segments;
  SplitBy(normalized_, text, 0, {}, 0, &segments);
  return segments;
}

std::vector<AddedTokens::Segment> AddedTokens::Split(std::string_view text, std::span<const Span> ordinary,
                                                     size_t base) const {
  std::vector<Segment> segments = SplitRaw(text, ordinary, base);
  if (normalized_.is_empty()) return segments;
  std::vector<Segment> both;
  for (const Segment& segment : segments) {
    if (segment.id >= 0) {
      both.push_back(segment);
    } else {
      const Span span = segment.span;
      SplitBy(normalized_, text.substr(span.begin, span.end - span.begin), span.begin, ordinary, base, &both);
    }
  }
  return both;
}

}  // namespace mxmla
