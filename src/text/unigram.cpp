#include "text/unigram.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <numeric>

#include "text/utf8.h"

namespace mxmla {
namespace {

constexpr double kUnknownPenalty = 10;

}  // namespace

Unigram::Unigram(std::vector<Token> tokens, int32_t unknown, std::optional<std::array<int32_t, 256>> byte_ids)
    : unknown_(unknown), byte_ids_(byte_ids) {
  double lowest = std::numeric_limits<double>::infinity();
  for (const Token& token : tokens) {
    scores_.push_back(token.score);
    lowest = std::min(lowest, token.score);
  }
  unknown_score_ = lowest - kUnknownPenalty;

  // Breadth first over the tokens in order, so that a node's children lie side by side. Of equal tokens the last
  // counts.
  std::vector<int32_t> order(tokens.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return tokens[static_cast<size_t>(a)].text < tokens[static_cast<size_t>(b)].text;
  });
  struct Range {
    uint32_t node;
    size_t begin, end, depth;
  };
  nodes_.emplace_back();
  std::deque<Range> open = {{0, 0, order.size(), 0}};
  const auto text = [&](size_t at) -> const std::string& { return tokens[static_cast<size_t>(order[at])].text; };
  while (!open.empty()) {
    Range range = open.front();
    open.pop_front();
    for (; range.begin < range.end && text(range.begin).size() == range.depth; ++range.begin) {
      if (range.depth > 0) nodes_[range.node].id = order[range.begin];
    }
    nodes_[range.node].first_child = static_cast<uint32_t>(nodes_.size());
    while (range.begin < range.end) {
      const auto byte = static_cast<unsigned char>(text(range.begin)[range.depth]);
      size_t end = range.begin;
      while (end < range.end && static_cast<unsigned char>(text(end)[range.depth]) == byte) ++end;
      open.push_back({static_cast<uint32_t>(nodes_.size()), range.begin, end, range.depth + 1});
      nodes_.push_back({0, 0, byte, -1});
      ++nodes_[range.node].children;
      range.begin = end;
    }
  }
}

uint32_t Unigram::Child(uint32_t node, unsigned char byte) const {
  const auto begin = nodes_.begin() + nodes_[node].first_child;
  const auto end = begin + nodes_[node].children;
  const auto found =
      std::lower_bound(begin, end, byte, [](const Node& child, unsigned char b) { return child.byte < b; });
  return found != end && found->byte == byte ? static_cast<uint32_t>(found - nodes_.begin()) : 0;
}

void Unigram::AppendUnknown(std::string_view text, std::vector<int32_t>* ids) const {
  if (!byte_ids_) {
    ids->push_back(unknown_);
    return;
  }
  for (const char c : text) ids->push_back((*byte_ids_)[static_cast<unsigned char>(c)]);
}

void Unigram::Encode(std::string_view piece, std::vector<int32_t>* ids) const {
  // The best way to each place: where its last token begins, and which it is.
  struct Best {
    double score = 0;
    size_t begin = std::string_view::npos;
    int32_t id = -1;
  };
  std::vector<Best> best(piece.size() + 1);
  for (size_t begin = 0; begin < piece.size();) {
    const size_t character = CodePointAt(piece, begin).length;
    bool has_character = false;
    const auto reach = [&](size_t end, double score, int32_t id) {
      Best& target = best[end];
      const double sum = score + best[begin].score;
      if (target.begin == std::string_view::npos || sum > target.score) target = {sum, begin, id};
    };
    uint32_t node = 0;
    for (size_t at = begin; at < piece.size(); ++at) {
      node = Child(node, static_cast<unsigned char>(piece[at]));
      if (node == 0) break;
      const int32_t id = nodes_[node].id;
      if (id < 0) continue;
      reach(at + 1, scores_[static_cast<size_t>(id)], id);
      has_character = has_character || at + 1 - begin == character;
    }
    if (!has_character) reach(begin + character, unknown_score_, unknown_);
    begin += character;
  }
  // Backwards; unknown neighbours are one.
  std::vector<std::pair<size_t, size_t>> cuts;  // begin, end
  std::vector<int32_t> found;
  for (size_t end = piece.size(); end > 0; end = best[end].begin) {
    if (best[end].id == unknown_ && !found.empty() && found.back() == unknown_) {
      cuts.back().first = best[end].begin;
      continue;
    }
    cuts.emplace_back(best[end].begin, end);
    found.push_back(best[end].id);
  }
  for (size_t i = found.size(); i-- > 0;) {
    if (found[i] == unknown_) {
      AppendUnknown(piece.substr(cuts[i].first, cuts[i].second - cuts[i].first), ids);
    } else {
      ids->push_back(found[i]);
    }
  }
}

}  // namespace mxmla
