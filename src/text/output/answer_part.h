// What an answer of a chat model is made of.
#pragma once

#include <string>
#include <vector>

namespace mxmla {

struct ToolCall {
  std::string id;  // as the model wrote it; empty where it wrote none
  std::string name;
  std::string arguments;  // a JSON object, in the model's own words where the format is JSON
};

struct AnswerPart {
  // A call comes as kToolCall, which has its id and name alone, any number of kArguments and kCallEnd; nothing stands
  // between them. What the model breaks off or spoils ends with kCallBroken instead, and its text follows as kText:
  // then the arguments that came are the beginning of a JSON object, and never all of one.
  enum class Kind { kReasoning, kText, kToolCall, kArguments, kCallEnd, kCallBroken };
  Kind kind = Kind::kText;
  std::string text = {};  // kReasoning, kText, kArguments
  ToolCall call = {};     // kToolCall
};

// Adds a part to parts that are on their way: texts and arguments are joined to those they follow.
void AppendPart(AnswerPart part, std::vector<AnswerPart>* parts);

// Adds a part to the parts of a whole answer: texts, and calls with all of their arguments. Broken calls leave nothing
// but their text.
void JoinPart(AnswerPart part, std::vector<AnswerPart>* parts);

}  // namespace mxmla
