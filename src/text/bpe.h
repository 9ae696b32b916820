// Byte-pair encoding of one piece of text. Time is O(n log n) in the piece's bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/subword_model.h"
#include "text/vocabulary.h"

namespace mxmla {

// A merge of a tokenizer.json: the pair's ids, in order of rank, and the id of the two joined.
struct Merge {
  int32_t left;
  int32_t right;
  int32_t joined;
};

// What two neighbours become, by their ids.
class MergeTable {
 public:
  struct Ranked {
    int32_t rank;
    int32_t joined;
  };

  // A pair that occurs twice takes its later rank.
  explicit MergeTable(std::span<const Merge> merges);

  std::optional<Ranked> Find(int32_t left, int32_t right) const;

 private:
  std::unordered_map<uint64_t, Ranked> merges_;
};

// The tokenizers library's BPE: an explicit list of merges. A byte without a token is dropped, as there.
class MergeListBpe : public SubwordModel {
 public:
  // `byte_ids` has -1 for a byte without a token. With `ignore_merges` a piece that is a token is that token.
  // `vocabulary` outlives the encoder.
  MergeListBpe(const Vocabulary* vocabulary, const std::array<int32_t, 256>& byte_ids, std::span<const Merge> merges,
               bool ignore_merges);

  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override;

 private:
  const Vocabulary* vocabulary_;
  std::array<int32_t, 256> byte_ids_;
  MergeTable merges_;
  bool ignore_merges_;
};

// The same over characters, as SentencePiece has it: a character without a token is its bytes, where all of them have
// tokens, else the unknown token, else dropped.
class CharacterBpe : public SubwordModel {
 public:
  struct Options {
    std::unordered_map<std::string, int32_t> tokens;   // all of them, by their spelling
    std::optional<std::array<int32_t, 256>> byte_ids;  // of <0x00> to <0xFF>, where the model falls back to them
    std::optional<int32_t> unknown;
    bool fuses_unknown = false;  // a run of unknown characters is one token
    bool ignore_merges = false;  // a piece that is a token is that token
  };

  CharacterBpe(Options options, std::span<const Merge> merges) : options_(std::move(options)), merges_(merges) {}

  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override;

 private:
  Options options_;
  MergeTable merges_;
};

// Tiktoken's BPE: two neighbours merge where their bytes joined are a token, and that token's id is the rank.
class RankBpe : public SubwordModel {
 public:
  // Every single byte is a token of `vocabulary`, which outlives the encoder.
  explicit RankBpe(const Vocabulary* vocabulary) : vocabulary_(vocabulary) {}

  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override;

 private:
  const Vocabulary* vocabulary_;
};

}  // namespace mxmla
