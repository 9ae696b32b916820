// One request for text: its choices run in the engine, its answer goes out whole or as server-sent events.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/answer.h"
#include "serve/engine.h"
#include "serve/http.h"
#include "serve/metrics.h"
#include "serve/served_text.h"

namespace mxmla::serve {

struct CompletionJob {
  std::vector<GenerateRequest> requests;  // a choice each, with prompt and max_tokens; no tokenizer and no stop strings
  AnswerParserOptions parsing;            // of every choice
  bool stream = false;
  int64_t prompts = 1;  // the choices belong to so many prompts, one after the other
  // What all choices have to match; with it the grammars' service, which may be null.
  std::optional<StructuredOutput> structured;
  std::shared_ptr<GrammarService> grammars;
};

// Runs the job, once its grammar is compiled; the answer goes to `responder`. `text`, the engine and metrics outlive
// the run.
void RunCompletion(CompletionJob job, std::unique_ptr<AnswerWriter> writer, const ServedText& text, Engine& engine,
                   Metrics& metrics, std::shared_ptr<Responder> responder);

// A random name of a request or an answer, such as "chatcmpl-8f1c...".
std::string RandomId(const std::string& prefix);

}  // namespace mxmla::serve
