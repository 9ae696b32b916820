// The tokens of a model: id to bytes, bytes to id.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mxmla {

class Vocabulary {
 public:
  // No id may be above this; it keeps a hostile file from asking for a table of gigabytes.
  static constexpr int64_t kLargestId = (int64_t{1} << 22) - 1;

  enum class Kind : uint8_t { kNone, kOrdinary, kAdded, kSpecial };

  struct Token {
    int64_t id;
    std::string bytes;
    Kind kind;
    // Whether Find gives this token for its bytes (a token spelt outside the byte-level alphabet is not text).
    bool is_findable;
  };

  Vocabulary() = default;

  // Throws kTokenizer, `subject` naming the file, for an id that is negative, above kLargestId or used twice.
  Vocabulary(const std::vector<Token>& tokens, const std::string& subject);

  // `find_` points into `bytes_`.
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  // The largest id and one.
  int32_t size() const { return static_cast<int32_t>(kinds_.size()); }

  // The token's bytes; empty for an id without a token.
  std::string_view Bytes(int32_t id) const;

  Kind KindOf(int32_t id) const;

  // The ordinary token of these bytes.
  std::optional<int32_t> Find(std::string_view bytes) const;

  size_t longest_findable() const { return longest_findable_; }

 private:
  std::vector<char> bytes_;
  std::vector<std::pair<uint32_t, uint32_t>> places_;  // offset and length in bytes_
  std::vector<Kind> kinds_;
  std::unordered_map<std::string_view, int32_t> find_;
  size_t longest_findable_ = 0;
};

}  // namespace mxmla
