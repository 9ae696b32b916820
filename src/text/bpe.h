// Byte-pair encoding of one piece of text.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/vocabulary.h"

namespace mxmla {

class Bpe {
 public:
  virtual ~Bpe() = default;

  // Appends the piece's ids. Time is O(n log n) in the piece's bytes.
  virtual void Encode(std::string_view piece, std::vector<int32_t>* ids) const = 0;
};

// A merge of a tokenizer.json: the pair's ids, in order of rank, and the id of the two joined.
struct Merge {
  int32_t left;
  int32_t right;
  int32_t joined;
};

// The tokenizers library's BPE: an explicit list of merges. A byte without a token is dropped, as there.
class MergeListBpe : public Bpe {
 public:
  // `byte_ids` has -1 for a byte without a token. A pair that occurs twice takes its later rank. With `ignore_merges`
  // a piece that is a token is that token. `vocabulary` outlives the encoder.
  MergeListBpe(const Vocabulary* vocabulary, const std::array<int32_t, 256>& byte_ids, std::span<const Merge> merges,
               bool ignore_merges);

  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override;

 private:
  struct RankedMerge {
    int32_t rank;
    int32_t joined;
  };

  const Vocabulary* vocabulary_;
  std::array<int32_t, 256> byte_ids_;
  std::unordered_map<uint64_t, RankedMerge> merges_;
  bool ignore_merges_;
};

// Tiktoken's BPE: two neighbours merge where their bytes joined are a token, and that token's id is the rank.
class RankBpe : public Bpe {
 public:
  // Every single byte is a token of `vocabulary`, which outlives the encoder.
  explicit RankBpe(const Vocabulary* vocabulary) : vocabulary_(vocabulary) {}

  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override;

 private:
  const Vocabulary* vocabulary_;
};

}  // namespace mxmla
