// Where a model thinks and where it answers.
#pragma once

#include <string>
#include <vector>

#include "text/output/marker_matcher.h"

namespace mxmla {

// What a model writes around its thinking.
struct ReasoningFormat {
  std::string name;
  MarkedText begin, end;
  std::vector<int32_t> marker_tokens;  // of the two
};

// Takes an answer in pieces, however they are cut, and says of each unit what it belongs to. Thinking goes from `begin`
// (or the start, where the prompt has opened it) to `end`, to the first tool call, or to the end of the answer; the
// markers belong to neither. White space before it and
// line feeds around it are dropped. Where the vocabulary has no tokens for them,
// thinking can only be at the start: elsewhere the same text may be about it.
class ReasoningSplitter {
 public:
  struct Piece {
    bool is_reasoning;
    MarkedText text;
  };

  // `call_begins`: markers that begin a tool call, and so end an unfinished thought.
  ReasoningSplitter(const ReasoningFormat& format, std::vector<MarkedText> call_begins, bool is_open);

  // Appends what is certain to `pieces`.
  void Push(MarkedView text, std::vector<Piece>* pieces);
  void Flush(std::vector<Piece>* pieces);

  bool is_open() const { return is_open_; }

 private:
  void Take(char16_t unit, std::vector<Piece>* pieces);
  void Found(size_t marker, std::vector<Piece>* pieces);
  void Emit(size_t count, std::vector<Piece>* pieces);
  void EmitUnit(char16_t unit, std::vector<Piece>* pieces);
  void Open();
  void Close();

  const std::vector<MarkedText> markers_;  // begin, end, call_begins
  const bool is_marked_;
  MarkerMatcher matcher_;
  bool is_open_;
  bool at_start_ = true;        // nothing but white space so far
  bool skips_newlines_ = true;  // until the first unit of this stretch that is none
  MarkedText leading_;          // white space at the start: dropped if a thought follows
  size_t newlines_ = 0;         // of the thinking, not certain to be inside of it
  MarkedText held_;
};

}  // namespace mxmla
