#include "text/output/answer_part.h"

#include <utility>

namespace mxmla {

using Kind = AnswerPart::Kind;

void AppendPart(AnswerPart part, std::vector<AnswerPart>* parts) {
  const bool is_text = part.kind == Kind::kText || part.kind == Kind::kReasoning || part.kind == Kind::kArguments;
  if (is_text && part.text.empty()) return;
  if (is_text && !parts->empty() && parts->back().kind == part.kind) {
    parts->back().text += part.text;
  } else {
    parts->push_back(std::move(part));
  }
}

void JoinPart(AnswerPart part, std::vector<AnswerPart>* parts) {
  switch (part.kind) {
    case Kind::kArguments:
      parts->back().call.arguments += part.text;
      break;
    case Kind::kCallEnd:
      break;
    case Kind::kCallBroken:
      parts->pop_back();
      break;
    default:
      AppendPart(std::move(part), parts);
  }
}

}  // namespace mxmla
