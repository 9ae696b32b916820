#include "text/pre_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/json_fields.h"
#include "text/oniguruma.h"

namespace mxmla {
namespace {

constexpr int kDeepest = 16;

// What ByteLevel splits by where it is told to use its own expression.
constexpr std::string_view kByteLevelExpression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

PreTokenizer::Behavior BehaviorNamed(const std::string& name, const std::string& subject) {
  if (name == "Removed") return PreTokenizer::Behavior::kRemoved;
  if (name == "Isolated") return PreTokenizer::Behavior::kIsolated;
  if (name == "MergedWithPrevious") return PreTokenizer::Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return PreTokenizer::Behavior::kMergedWithNext;
  if (name == "Contiguous") return PreTokenizer::Behavior::kContiguous;
  Fail(ErrorCode::kTokenizer, subject,
       "the behavior Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous", name);
}

struct Part {
  Span span;
  bool is_match;
};

// The whole of a text as matches and what lies between them.
std::vector<Part> PartsOf(std::string_view text, const std::vector<Span>& matches, bool is_inverted) {
  std::vector<Part> parts;
  size_t done = 0;
  for (const Span& match : matches) {
    if (done < match.begin) parts.push_back({{done, match.begin}, is_inverted});
    parts.push_back({match, !is_inverted});
    done = match.end;
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, is_inverted});
  return parts;
}

// Lets a match join its neighbour before it; a match right behind a match stays by itself.
std::vector<Span> MergeWithPrevious(const std::vector<Part>& parts) {
  std::vector<Span> spans;
  bool was_match = false;
  for (const Part& part : parts) {
    if (part.is_match && !was_match && !spans.empty()) {
      spans.back().end = part.span.end;
    } else {
      spans.push_back(part.span);
    }
    was_match = part.is_match;
  }
  return spans;
}

std::vector<Span> MergeWithNext(const std::vector<Part>& parts) {
  std::vector<Span> spans;
  bool was_match = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->is_match && !was_match && !spans.empty()) {
      spans.back().begin = part->span.begin;
    } else {
      spans.push_back(part->span);
    }
    was_match = part->is_match;
  }
  std::reverse(spans.begin(), spans.end());
  return spans;
}

std::vector<Span> MergeEqual(const std::vector<Part>& parts) {
  std::vector<Span> spans;
  bool was_match = false;
  for (const Part& part : parts) {
    if (part.is_match == was_match && !spans.empty()) {
      spans.back().end = part.span.end;
    } else {
      spans.push_back(part.span);
    }
    was_match = part.is_match;
  }
  return spans;
}

std::vector<Span> Apply(PreTokenizer::Behavior behavior, const std::vector<Part>& parts) {
  switch (behavior) {
    case PreTokenizer::Behavior::kMergedWithPrevious:
      return MergeWithPrevious(parts);
    case PreTokenizer::Behavior::kMergedWithNext:
      return MergeWithNext(parts);
    case PreTokenizer::Behavior::kContiguous:
      return MergeEqual(parts);
    case PreTokenizer::Behavior::kRemoved:
    case PreTokenizer::Behavior::kIsolated:
      break;
  }
  std::vector<Span> spans;
  for (const Part& part : parts) {
    if (behavior == PreTokenizer::Behavior::kIsolated || !part.is_match) spans.push_back(part.span);
  }
  return spans;
}

}  // namespace

PreTokenizer PreTokenizer::FromJson(const nlohmann::json& json, const std::string& subject) {
  PreTokenizer pre_tokenizer;
  if (!json.is_null()) AppendSteps(json, subject, 0, &pre_tokenizer);
  return pre_tokenizer;
}

PreTokenizer PreTokenizer::FromExpression(std::string_view expression, const std::string& subject) {
  PreTokenizer pre_tokenizer;
  pre_tokenizer.AddExpression(Regex(TranslateOniguruma(expression, subject), subject), Behavior::kIsolated, false);
  return pre_tokenizer;
}

void PreTokenizer::AddExpression(Regex expression, Behavior behavior, bool is_inverted) {
  Step step;
  step.expression = std::move(expression);
  step.behavior = behavior;
  step.is_inverted = is_inverted;
  steps_.push_back(std::move(step));
}

void PreTokenizer::AppendSteps(const nlohmann::json& json, const std::string& subject, int depth, PreTokenizer* to) {
  if (depth > kDeepest) Fail(ErrorCode::kTokenizer, subject, "a shallow Sequence", "one nested too deeply");
  const std::string type = StringField(json, "type", subject);
  if (to->is_byte_level_) {
    Fail(ErrorCode::kTokenizer, subject, "ByteLevel as the last pre-tokenizer", fmt::format("{} behind it", type));
  }
  if (type == "Sequence") {
    const nlohmann::json& members = Field(json, "pretokenizers", subject);
    if (!members.is_array()) Fail(ErrorCode::kTokenizer, subject, "an array of pre-tokenizers", members.type_name());
    for (const nlohmann::json& member : members) AppendSteps(member, subject, depth + 1, to);
  } else if (type == "Split") {
    const Behavior behavior = BehaviorNamed(StringField(json, "behavior", subject), subject);
    const bool is_inverted = BoolField(json, "invert", false, subject);
    to->AddExpression(PatternField(json, subject), behavior, is_inverted);
  } else if (type == "Digits") {
    const bool is_individual = BoolField(json, "individual_digits", false, subject);
    to->AddExpression(Regex("\\p{N}", subject), is_individual ? Behavior::kIsolated : Behavior::kContiguous, false);
  } else if (type == "ByteLevel") {
    if (BoolField(json, "add_prefix_space", true, subject)) to->steps_.emplace_back();
    if (BoolField(json, "use_regex", true, subject)) {
      to->AddExpression(Regex(TranslateOniguruma(kByteLevelExpression, subject), subject), Behavior::kIsolated, false);
    }
    to->is_byte_level_ = true;
  } else if (type == "Metaspace") {
    to->AddMetaspace(json, subject);
  } else {
    Fail(ErrorCode::kTokenizer, subject, "the pre-tokenizers Sequence, Split, Digits, Metaspace and ByteLevel", type);
  }
}

// Files of older versions have add_prefix_space in the place of prepend_scheme.
void PreTokenizer::AddMetaspace(const nlohmann::json& json, const std::string& subject) {
  using Prefix = Metaspace::Prefix;
  Metaspace metaspace{StringField(json, "replacement", subject), Prefix::kAlways, {}};
  if (HasField(json, "prepend_scheme")) {
    const std::string scheme = StringField(json, "prepend_scheme", subject);
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      Fail(ErrorCode::kTokenizer, subject, "the prepend_scheme always, first or never", scheme);
    }
    metaspace.prefix = scheme == "always" ? Prefix::kAlways : scheme == "first" ? Prefix::kFirst : Prefix::kNever;
  } else if (!BoolField(json, "add_prefix_space", true, subject)) {
    metaspace.prefix = Prefix::kNever;
  }
  if (metaspace.replacement.empty()) Fail(ErrorCode::kTokenizer, subject, "a replacement of one character", "none");
  if (BoolField(json, "split", true, subject)) metaspace.splits = Regex::Literal(metaspace.replacement, subject);
  steps_.emplace_back().metaspace = std::move(metaspace);
}

std::vector<std::string_view> PreTokenizer::Split(std::string_view text, bool is_first,
                                                  std::deque<std::string>* storage) const {
  std::vector<std::string_view> pieces;
  if (text.empty()) return pieces;
  pieces.push_back(text);
  std::vector<std::string_view> next;
  std::vector<Span> matches;
  for (const Step& step : steps_) {
    next.clear();
    for (std::string_view piece : pieces) {
      if (step.metaspace) {
        const Metaspace& m = *step.metaspace;
        std::string& changed = storage->emplace_back();
        for (const char c : piece) {
          if (c == ' ') {
            changed += m.replacement;
          } else {
            changed += c;
          }
        }
        const bool begins = is_first && piece.data() == pieces.front().data();
        const bool prefixes =
            m.prefix == Metaspace::Prefix::kAlways || (m.prefix == Metaspace::Prefix::kFirst && begins);
        if (prefixes && !changed.starts_with(m.replacement)) changed.insert(0, m.replacement);
        piece = changed;
        if (!m.splits) {
          next.push_back(piece);
          continue;
        }
        m.splits->FindAll(piece, &matches);
        for (const Span& span : MergeWithNext(PartsOf(piece, matches, false))) {
          next.push_back(piece.substr(span.begin, span.end - span.begin));
        }
        continue;
      }
      if (!step.expression) {
        if (!piece.starts_with(' ')) piece = storage->emplace_back(" " + std::string(piece));
        next.push_back(piece);
        continue;
      }
      step.expression->FindAll(piece, &matches);
      if (matches.empty() && !step.is_inverted) {
        next.push_back(piece);
        continue;
      }
      for (const Span& span : Apply(step.behavior, PartsOf(piece, matches, step.is_inverted))) {
        if (span.begin < span.end) next.push_back(piece.substr(span.begin, span.end - span.begin));
      }
    }
    pieces.swap(next);
  }
  return pieces;
}

}  // namespace mxmla
