#include "text/bpe.h"

#include <algorithm>
#include <optional>

#include "text/utf8.h"

namespace mxmla {
namespace {

// A token so far: a stretch of the piece, linked to its neighbours. A length of 0 marks one that was merged away.
struct Symbol {
  int32_t id;
  uint32_t begin;
  uint32_t length;
  int32_t previous;
  int32_t next;
};

using Joined = MergeTable::Ranked;

struct Candidate {
  int32_t rank;
  int32_t position;
  int32_t left;
  int32_t right;
  int32_t joined;

  // For a heap whose top is the lowest rank, the leftmost of equals.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

// The working memory of one thread, kept between pieces.
struct Workspace {
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

Workspace& ThreadWorkspace() {
  thread_local Workspace workspace;
  return workspace;
}

// Merges the lowest-ranked pair until none is left. A candidate whose symbols have changed since it was made is
// stale and skipped: symbols only grow, so equal ids mean the same stretch of text.
template <typename FindJoined>
void MergeAll(Workspace* workspace, const FindJoined& find_joined) {
  std::vector<Symbol>& symbols = workspace->symbols;
  std::vector<Candidate>& heap = workspace->heap;
  heap.clear();
  const auto candidate = [&](int32_t position) -> std::optional<Candidate> {
    const Symbol& left = symbols[static_cast<size_t>(position)];
    if (left.next < 0) return std::nullopt;
    const Symbol& right = symbols[static_cast<size_t>(left.next)];
    const std::optional<Joined> joined = find_joined(left, right);
    if (!joined) return std::nullopt;
    return Candidate{joined->rank, position, left.id, right.id, joined->joined};
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    if (const auto c = candidate(static_cast<int32_t>(i))) heap.push_back(*c);
  }
  std::make_heap(heap.begin(), heap.end());
  const auto push = [&](int32_t position) {
    if (const auto c = candidate(position)) {
      heap.push_back(*c);
      std::push_heap(heap.begin(), heap.end());
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate top = heap.back();
    heap.pop_back();
    Symbol& left = symbols[static_cast<size_t>(top.position)];
    if (left.length == 0 || left.next < 0 || left.id != top.left) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (right.id != top.right) continue;
    left.id = top.joined;
    left.length += right.length;
    left.next = right.next;
    right.length = 0;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = top.position;
    if (left.previous >= 0) push(left.previous);
    push(top.position);
  }
}

void AppendIds(const std::vector<Symbol>& symbols, std::vector<int32_t>* ids) {
  if (symbols.empty()) return;
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    ids->push_back(symbols[static_cast<size_t>(i)].id);
  }
}

uint64_t PairKey(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

void PushSymbol(int32_t id, size_t begin, std::vector<Symbol>* symbols) {
  const auto at = static_cast<int32_t>(symbols->size());
  if (at > 0) symbols->back().next = at;
  symbols->push_back({id, static_cast<uint32_t>(begin), 1, at - 1, -1});
}

}  // namespace

MergeTable::MergeTable(std::span<const Merge> merges) {
  merges_.reserve(merges.size());
  int32_t rank = 0;
  for (const Merge& merge : merges) merges_[PairKey(merge.left, merge.right)] = {rank++, merge.joined};
}

std::optional<MergeTable::Ranked> MergeTable::Find(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  if (found == merges_.end()) return std::nullopt;
  return found->second;
}

MergeListBpe::MergeListBpe(const Vocabulary* vocabulary, const std::array<int32_t, 256>& byte_ids,
                           std::span<const Merge> merges, bool ignore_merges)
    : vocabulary_(vocabulary), byte_ids_(byte_ids), merges_(merges), ignore_merges_(ignore_merges) {}

void MergeListBpe::Encode(std::string_view piece, std::vector<int32_t>* ids) const {
  if (ignore_merges_) {
    if (const auto id = vocabulary_->Find(piece)) {
      ids->push_back(*id);
      return;
    }
  }
  Workspace& workspace = ThreadWorkspace();
  workspace.symbols.clear();
  for (size_t i = 0; i < piece.size(); ++i) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(piece[i])];
    if (id >= 0) PushSymbol(id, i, &workspace.symbols);
  }
  MergeAll(&workspace, [this](const Symbol& left, const Symbol& right) { return merges_.Find(left.id, right.id); });
  AppendIds(workspace.symbols, ids);
}

void CharacterBpe::Encode(std::string_view piece, std::vector<int32_t>* ids) const {
  std::string key;
  const auto find = [&](std::string_view text) -> std::optional<int32_t> {
    key.assign(text);
    const auto found = options_.tokens.find(key);
    if (found == options_.tokens.end()) return std::nullopt;
    return found->second;
  };
  if (options_.ignore_merges) {
    if (const auto id = find(piece)) {
      ids->push_back(*id);
      return;
    }
  }
  Workspace& workspace = ThreadWorkspace();
  workspace.symbols.clear();
  bool is_unknown = false;  // the characters before are, and wait for what follows
  const auto push_unknown = [&](size_t at) {
    if (is_unknown) PushSymbol(*options_.unknown, at, &workspace.symbols);
    is_unknown = false;
  };
  for (size_t at = 0; at < piece.size();) {
    const std::string_view character = piece.substr(at, CodePointAt(piece, at).length);
    if (const auto id = find(character)) {
      push_unknown(at);
      PushSymbol(*id, at, &workspace.symbols);
    } else if (options_.byte_ids) {
      for (const char c : character) {
        PushSymbol((*options_.byte_ids)[static_cast<unsigned char>(c)], at, &workspace.symbols);
      }
    } else if (options_.unknown) {
      if (!options_.fuses_unknown) push_unknown(at);
      is_unknown = true;
    }
    at += character.size();
  }
  push_unknown(piece.size());
  MergeAll(&workspace, [this](const Symbol& left, const Symbol& right) { return merges_.Find(left.id, right.id); });
  AppendIds(workspace.symbols, ids);
}

void RankBpe::Encode(std::string_view piece, std::vector<int32_t>* ids) const {
  if (const auto id = vocabulary_->Find(piece)) {
    ids->push_back(*id);
    return;
  }
  Workspace& workspace = ThreadWorkspace();
  workspace.symbols.clear();
  for (size_t i = 0; i < piece.size(); ++i) {
    PushSymbol(*vocabulary_->Find(piece.substr(i, 1)), i, &workspace.symbols);
  }
  MergeAll(&workspace, [&](const Symbol& left, const Symbol& right) -> std::optional<Joined> {
    const size_t length = size_t{left.length} + right.length;
    if (length > vocabulary_->longest_findable()) return std::nullopt;
    const auto id = vocabulary_->Find(piece.substr(left.begin, length));
    if (!id) return std::nullopt;
    return Joined{*id, *id};
  });
  AppendIds(workspace.symbols, ids);
}

}  // namespace mxmla
