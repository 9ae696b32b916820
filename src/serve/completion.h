// One request for text: its choices run in the engine, its answer goes out whole or as server-sent events.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/engine_thread.h"
#include "serve/http.h"
#include "serve/metrics.h"
#include "serve/request_fields.h"

namespace mxmla::serve {

// How an endpoint writes an answer down.
class CompletionFormat {
 public:
  virtual ~CompletionFormat() = default;

  // One entry of "choices" of a whole answer.
  virtual Json Choice(int64_t index, const GenerateResult& result) const = 0;
  // One entry of "choices" of an event; `first` for the first event of a choice.
  virtual Json Delta(int64_t index, const std::string& text, bool first) const = 0;
  // The last event of a choice.
  virtual Json End(int64_t index, const GenerateResult& result) const = 0;
  // Of the answer: "chat.completion", and of an event.
  virtual const char* object() const = 0;
  virtual const char* event_object() const = 0;
  virtual const char* id_prefix() const = 0;
};

// "stop" or "length"
const char* FinishReasonName(const GenerateResult& result);

struct CompletionJob {
  std::vector<GenerateRequest> requests;  // a choice each, with prompt, max_tokens and tokenizer
  bool stream = false, include_usage = false;
  std::string model;
  int64_t prompts = 1;  // the choices belong to so many prompts, one after the other
  // What all choices have to match; with it the grammars' service, which may be null.
  std::optional<StructuredOutput> structured;
  std::shared_ptr<GrammarService> grammars;
};

// Runs the job, once its grammar is compiled; the answer goes to `responder`. The engine and metrics outlive the run.
void RunCompletion(CompletionJob job, std::unique_ptr<CompletionFormat> format, EngineThread& engine, Metrics& metrics,
                   std::shared_ptr<Responder> responder);

// A random name of a request or an answer, such as "chatcmpl-8f1c...".
std::string RandomId(const std::string& prefix);

}  // namespace mxmla::serve
