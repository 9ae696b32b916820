// The unigram language model (Kudo 2018, arXiv 1804.10959): of all ways to cut a piece into tokens, the one whose
// scores sum to most.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/subword_model.h"

namespace mxmla {

class Unigram : public SubwordModel {
 public:
  struct Token {
    std::string text;
    double score;
  };

  // Ids are places in `tokens`. A character that no token holds costs the lowest score less 10 and is `unknown`, a run
  // of such characters once. With `byte_ids` (all 256) it is its bytes instead.
  Unigram(std::vector<Token> tokens, int32_t unknown, std::optional<std::array<int32_t, 256>> byte_ids);

  // Time is linear in the piece's bytes, times the longest token's.
  void Encode(std::string_view piece, std::vector<int32_t>* ids) const override;

 private:
  // A trie in two arrays: of a node, the first child and how many; children are in order of their byte.
  struct Node {
    uint32_t first_child = 0;
    uint16_t children = 0;
    unsigned char byte = 0;
    int32_t id = -1;
  };

  // The child of `node` by `byte`, or 0.
  uint32_t Child(uint32_t node, unsigned char byte) const;
  void AppendUnknown(std::string_view text, std::vector<int32_t>* ids) const;

  std::vector<double> scores_;
  std::vector<Node> nodes_;  // the root first
  int32_t unknown_;
  double unknown_score_;
  std::optional<std::array<int32_t, 256>> byte_ids_;
};

}  // namespace mxmla
