// Tokens that are found in the text itself, before it is split and merged.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/regex.h"

namespace mxmla {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool is_special = false;
  bool is_normalized = false;   // looked for behind the others, in what they leave
  bool strips_left = false;     // takes the white space before it along
  bool strips_right = false;    // takes the white space behind it along
  bool is_single_word = false;  // counts only where no word character touches it
};

class AddedTokens {
 public:
  AddedTokens();

  // Contents are distinct and not empty.
  explicit AddedTokens(std::vector<AddedToken> tokens);
  // Normalized tokens are looked for as `spellings` has them: of each token, in order.
  AddedTokens(std::vector<AddedToken> tokens, const std::vector<std::string>& spellings);

  // A stretch of the text: an added token, or text between them (id -1).
  struct Segment {
    int32_t id;
    Span span;
  };

  // Splits valid UTF-8: the first match from the left, the longest of those that begin there; tokens that are not
  // normalized first, then the normalized ones in the rest. No token has a byte in the ranges `ordinary`, which are in
  // order, apart from each other, and counted from `base` bytes before the text.
  std::vector<Segment> Split(std::string_view text, std::span<const Span> ordinary = {}, size_t base = 0) const;

  // The two halves of it, for a tokenizer that normalizes a text in between.
  std::vector<Segment> SplitRaw(std::string_view text, std::span<const Span> ordinary, size_t base) const;
  std::vector<Segment> SplitNormalized(std::string_view text) const;

  std::optional<int32_t> Find(std::string_view content) const;

 private:
  // A byte trie: each node's children, and the token that ends there.
  class Trie {
   public:
    void Insert(std::string_view content, size_t token);
    bool is_empty() const { return nodes_.size() == 1; }
    // The longest token at `offset`; `length` is set to its length.
    std::optional<size_t> Longest(std::string_view text, size_t offset, size_t* length) const;
    bool CanBegin(unsigned char byte) const { return nodes_[0].children.contains(byte); }

   private:
    struct Node {
      std::unordered_map<unsigned char, size_t> children;
      std::optional<size_t> token;
    };
    std::vector<Node> nodes_ = std::vector<Node>(1);
  };

  // `text` begins `offset` bytes behind the text that the segments are counted in, whose ranges `ordinary` are counted
  // from `base` bytes before it.
  void SplitBy(const Trie& trie, std::string_view text, size_t offset, std::span<const Span> ordinary, size_t base,
               std::vector<Segment>* segments) const;
  bool IsWordAt(std::string_view text, size_t offset) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  Trie raw_;
  Trie normalized_;
  Regex word_;

  static std::vector<std::string> Contents(const std::vector<AddedToken>& tokens);
};

}  // namespace mxmla
