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

  // The "pre_tokenizer" of a tokenizer.json: Split, Digits and ByteLevel, alone or in a Sequence whose last is
  // ByteLevel. Throws kTokenizer for anything else, naming it.
  static PreTokenizer FromJson(const nlohmann::json& json, const std::string& subject);

  // One expression, in Oniguruma's syntax, whose matches and the text between them are the pieces.
  static PreTokenizer FromExpression(std::string_view expression, const std::string& subject);

  // The pieces of valid UTF-8. Pieces that carry an added space lie in `storage`, the others in `text`.
  std::vector<std::string_view> Split(std::string_view text, std::deque<std::string>* storage) const;

 private:
  struct Step {
    // Without an expression the step puts a space before each piece that does not begin with one.
    std::optional<Regex> expression;
    Behavior behavior = Behavior::kIsolated;
    bool is_inverted = false;
  };

  static void AppendSteps(const nlohmann::json& json, const std::string& subject, int depth, PreTokenizer* to);
  void AddExpression(Regex expression, Behavior behavior, bool is_inverted);

  std::vector<Step> steps_;
  bool is_byte_level_ = false;
};

}  // namespace mxmla
