// Splits text into the pieces that byte-pair encoding works on.
#pragma once

#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace mxmla {

class PreTokenizer {
 public:
  // What becomes of the stretches that a step's expression matches.
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

  PreTokenizer() = default;

  // The "pre_tokenizer" of a tokenizer.json: Split, Digits, Metaspace and ByteLevel, alone or in a Sequence; nothing
  // stands behind a ByteLevel; null is none. Throws kTokenizer for anything else, naming it.
  static PreTokenizer FromJson(const nlohmann::json& json, const std::string& subject);

  // Whether the pieces are for a model over the byte-level alphabet.
  bool is_byte_level() const { return is_byte_level_; }

  // One expression, in Oniguruma's syntax, whose matches and the text between them are the pieces.
  static PreTokenizer FromExpression(std::string_view expression, const std::string& subject);

  // The pieces of valid UTF-8. Pieces that were changed lie in `storage`, the others in `text`. `is_first`: the text
  // begins what is encoded, which Metaspace can ask for.
  std::vector<std::string_view> Split(std::string_view text, bool is_first, std::deque<std::string>* storage) const;

 private:
  // Spaces become another character, which may also be put in front.
  struct Metaspace {
    enum class Prefix { kAlways, kFirst, kNever };

    std::string replacement;
    Prefix prefix;
    std::optional<Regex> splits;  // finds the replacement, where each is to begin a piece
  };

  struct Step {
    // Without an expression and a Metaspace the step puts a space before each piece that does not begin with one.
    std::optional<Regex> expression;
    std::optional<Metaspace> metaspace;
    Behavior behavior = Behavior::kIsolated;
    bool is_inverted = false;
  };

  static void AppendSteps(const nlohmann::json& json, const std::string& subject, int depth, PreTokenizer* to);
  void AddMetaspace(const nlohmann::json& json, const std::string& subject);
  void AddExpression(Regex expression, Behavior behavior, bool is_inverted);

  std::vector<Step> steps_;
  bool is_byte_level_ = false;
};

}  // namespace mxmla
