#include "serve/completion.h"

#include <fmt/format.h>

#include <ctime>
#include <random>

#include "serve/api_error.h"

namespace mxmla::serve {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsBetween(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// Lives until the last of its choices has ended; all of it but Prepare, Start and Abandon runs on the engine's thread.
class Completion : public std::enable_shared_from_this<Completion> {
 public:
  Completion(CompletionJob job, std::unique_ptr<CompletionFormat> format, EngineThread& engine, Metrics& metrics,
             std::shared_ptr<Responder> responder)
      : job_(std::move(job)),
        format_(std::move(format)),
        engine_(engine),
        metrics_(metrics),
        responder_(std::move(responder)),
        id_(RandomId(format_->id_prefix())),
        created_(std::time(nullptr)),
        begin_(Clock::now()),
        open_(job_.requests.size()),
        choices_(job_.requests.size()) {}

  // Compiles what the choices have to match, then starts them.
  void Prepare() {
    if (!job_.structured) return Start();
    if (!job_.grammars) RefuseField(job_.structured->field, "a server with structured output", "one without");
    const auto on_done = [self = shared_from_this()](const GrammarOutcome& outcome) {
      if (!outcome.grammar) {
        self->failed_ = std::make_exception_ptr(GrammarError(*self->job_.structured, outcome));
        return self->Finish();
      }
      for (GenerateRequest& request : self->job_.requests) {
        request.restrict_tokens = GrammarConstraint(outcome.grammar, ThinkingAfter(*request.tokenizer, request.prompt));
      }
      self->Start();
    };
    if (!job_.grammars->Compile(job_.structured->source, on_done)) {
      throw ApiError(429, "rate_limit_error", "too many grammars wait to be compiled; ask again in a moment",
                     job_.structured->field, "queue_full");
    }
  }

 private:
  void Start() {
    const auto self = shared_from_this();
    for (size_t i = 0; i < job_.requests.size(); ++i) {
      GenerateRequest request = std::move(job_.requests[i]);
      choices_[i].prompt_tokens = static_cast<int64_t>(request.prompt.size());
      request.on_token = [self, i](int32_t) {
        self->OnToken(self->choices_[i]);
        return true;
      };
      if (job_.stream) {
        request.on_text = [self, i](std::string_view text) {
          self->OnText(i, text);
          return true;
        };
      }
      tickets_.push_back(engine_.Submit(
          std::move(request), [self, i](RequestId, const GenerateResult& result) { self->OnDone(i, result); }));
    }
    responder_->OnGone([weak = weak_from_this()] {
      if (const auto alive = weak.lock()) alive->Abandon();
    });
  }

  struct Choice {
    bool begun = false;  // an event of it was sent
    int64_t tokens = 0, prompt_tokens = 0, cached_tokens = 0;
    Clock::time_point first_token, last_token;
    Json json;
  };

  void Abandon() {
    for (const EngineThread::Ticket ticket : tickets_) engine_.Cancel(ticket);
  }

  void OnToken(Choice& choice) {
    choice.last_token = Clock::now();
    if (choice.tokens++ > 0) return;
    choice.first_token = choice.last_token;
    metrics_.ObserveFirstToken(SecondsBetween(begin_, choice.first_token));
  }

  Json Event(Json choices) const {
    return {{"id", id_},
            {"object", format_->event_object()},
            {"created", created_},
            {"model", job_.model},
            {"choices", std::move(choices)}};
  }

  void SendEvent(const Json& event) { responder_->Write("data: " + Dump(event) + "\n\n"); }

  void BeginStream() {
    if (std::exchange(streaming_, true)) return;
    responder_->Begin(200, {{"content-type", "text/event-stream"}, {"cache-control", "no-cache"}});
  }

  void OnText(size_t i, std::string_view text) {
    BeginStream();
    Choice& choice = choices_[i];
    SendEvent(Event(Json::array({format_->Delta(static_cast<int64_t>(i), std::string(text), !choice.begun)})));
    choice.begun = true;
  }

  void OnDone(size_t i, const GenerateResult& result) {
    Choice& choice = choices_[i];
    const auto index = static_cast<int64_t>(i);
    choice.cached_tokens = result.cached_tokens;
    if (result.error) {
      if (!failed_) failed_ = result.error;
    } else if (job_.stream) {
      BeginStream();
      if (!choice.begun) SendEvent(Event(Json::array({format_->Delta(index, "", true)})));
      SendEvent(Event(Json::array({format_->End(index, result)})));
    } else {
      choice.json = format_->Choice(index, result);
    }
    if (choice.tokens > 1) {
      metrics_.ObserveTokenTime(SecondsBetween(choice.first_token, choice.last_token) /
                                static_cast<double>(choice.tokens - 1));
    }
    metrics_.ObserveAnswer(SecondsBetween(begin_, Clock::now()), choice.prompt_tokens, choice.cached_tokens,
                           static_cast<int64_t>(result.tokens.size()));
    choice.tokens = static_cast<int64_t>(result.tokens.size());
    if (--open_ == 0) Finish();
  }

  Json Usage() const {
    int64_t prompt = 0, cached = 0, generated = 0;
    // A prompt counts once, however many choices it has.
    const size_t each = choices_.size() / static_cast<size_t>(job_.prompts);
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (i % each == 0) prompt += choices_[i].prompt_tokens;
      if (i % each == 0) cached += choices_[i].cached_tokens;
      generated += choices_[i].tokens;
    }
    return {{"prompt_tokens", prompt},
            {"completion_tokens", generated},
            {"total_tokens", prompt + generated},
            {"prompt_tokens_details", {{"cached_tokens", cached}}}};
  }

  void Finish() {
    if (failed_) {
      const ApiError error = ToApiError(failed_);
      if (!streaming_) return RespondError(*responder_, error);
      SendEvent(error.Json());  // the status is sent already
    } else if (job_.stream) {
      if (job_.include_usage) {
        Json event = Event(Json::array());
        event["usage"] = Usage();
        SendEvent(event);
      }
    } else {
      Json choices = Json::array();
      for (Choice& choice : choices_) choices.push_back(std::move(choice.json));
      return RespondJson(*responder_, 200,
                         {{"id", id_},
                          {"object", format_->object()},
                          {"created", created_},
                          {"model", job_.model},
                          {"choices", std::move(choices)},
                          {"usage", Usage()}});
    }
    responder_->Write("data: [DONE]\n\n");
    responder_->End();
  }

  CompletionJob job_;
  const std::unique_ptr<CompletionFormat> format_;
  EngineThread& engine_;
  Metrics& metrics_;
  const std::shared_ptr<Responder> responder_;
  const std::string id_;
  const int64_t created_;
  const Clock::time_point begin_;
  size_t open_;
  std::vector<Choice> choices_;
  std::vector<EngineThread::Ticket> tickets_;
  std::exception_ptr failed_;
  bool streaming_ = false;
};

}  // namespace

const char* FinishReasonName(const GenerateResult& result) {
  return result.reason == FinishReason::kLength ? "length" : "stop";
}

std::string RandomId(const std::string& prefix) {
  static thread_local std::mt19937_64 random{std::random_device()()};
  return fmt::format("{}{:016x}{:08x}", prefix, random(), random() & 0xffffffffu);
}

void RunCompletion(CompletionJob job, std::unique_ptr<CompletionFormat> format, EngineThread& engine, Metrics& metrics,
                   std::shared_ptr<Responder> responder) {
  std::make_shared<Completion>(std::move(job), std::move(format), engine, metrics, std::move(responder))->Prepare();
}

}  // namespace mxmla::serve
