#include "serve/completion.h"

#include <fmt/format.h>

#include <chrono>
#include <ctime>
#include <random>
#include <set>

#include "serve/chat_request.h"

namespace mxmla::serve {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsBetween(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

void MoveTo(std::vector<TokenLogprob>* to, std::vector<TokenLogprob> from) {
  to->insert(to->end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

// Adds a part to those of a whole answer, as mxmla::JoinPart does.
void JoinPart(AnsweredPart part, std::vector<AnsweredPart>* parts) {
  using Kind = AnswerPart::Kind;
  const Kind kind = part.part.kind;
  const bool is_text = kind == Kind::kText || kind == Kind::kReasoning;
  const bool joins = is_text ? !parts->empty() && parts->back().part.kind == kind : kind == Kind::kArguments;
  if (!joins) return parts->push_back(std::move(part));
  AnsweredPart& last = parts->back();
  (is_text ? last.part.text : last.part.call.arguments) += part.part.text;
  MoveTo(&last.logprobs, std::move(part.logprobs));
}

// Lives until the last of its choices has ended; all of it but Prepare, Start and Abandon runs on the engine's thread.
class Completion : public std::enable_shared_from_this<Completion> {
 public:
  Completion(CompletionJob job, std::unique_ptr<AnswerWriter> writer, const ServedText& text, Engine& engine,
             Metrics& metrics, std::shared_ptr<Responder> responder)
      : job_(std::move(job)),
        writer_(std::move(writer)),
        text_(text),
        engine_(engine),
        metrics_(metrics),
        responder_(std::move(responder)),
        head_{RandomId(writer_->id_prefix()), std::time(nullptr), text.name},
        begin_(Clock::now()),
        open_(job_.requests.size()) {
    for (const GenerateRequest& request : job_.requests) {
      choices_.emplace_back(*text.tokenizer, text.format, job_.parsing);
      choices_.back().prompt_tokens = static_cast<int64_t>(request.prompt.size());
    }
  }

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
        request.restrict_tokens =
            GrammarConstraint(outcome.grammar, ThinkingAfter(*self->text_.tokenizer, request.prompt));
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
      request.client = responder_->client();
      request.on_token = [self, i](int32_t token) { return self->OnToken(i, token); };
      if (request.logprobs) {
        request.on_logprobs = [self, i](const TokenLogprobs& logprobs) {
          self->choices_[i].logprobs.push_back({-1, logprobs});
        };
      }
      tickets_.push_back(engine_.Submit(std::move(request),
                                        [self, i](int64_t, const GenerateResult& result) { self->OnDone(i, result); }));
    }
    responder_->OnGone([weak = weak_from_this()] {
      if (const auto alive = weak.lock()) alive->Abandon();
    });
  }

  struct Running {
    Running(const Tokenizer& tokenizer, const AnswerFormat& format, const AnswerParserOptions& options)
        : parser(std::make_unique<AnswerParser>(tokenizer, format, options)) {}

    std::unique_ptr<AnswerParser> parser;
    int64_t tokens = 0, prompt_tokens = 0, cached_tokens = 0, reasoning_tokens = 0;
    Clock::time_point first_token, last_token;
    std::vector<TokenLogprob> logprobs;  // of tokens that no part was given out with yet
    std::set<std::string> call_ids;
    Choice choice;  // without its parts in a stream
  };

  void Abandon() {
    for (const Engine::Ticket ticket : tickets_) engine_.Cancel(ticket);
  }

  bool OnToken(size_t i, int32_t token) {
    Running& running = choices_[i];
    running.last_token = Clock::now();
    if (running.tokens++ == 0) {
      running.first_token = running.last_token;
      metrics_.ObserveFirstToken(SecondsBetween(begin_, running.first_token));
    }
    if (!running.logprobs.empty() && running.logprobs.back().token < 0) running.logprobs.back().token = token;
    if (running.parser->is_reasoning()) ++running.reasoning_tokens;
    for (AnswerPart& part : running.parser->Push(token)) Emit(i, std::move(part));
    return !running.parser->is_done();
  }

  // Every call has an id that no other of its answer has: the model's own where it wrote one.
  std::string CallId(size_t i, const std::string& written) {
    std::set<std::string>& known = choices_[i].call_ids;
    if (!written.empty() && known.insert(written).second) return written;
    std::string id = CallIdFor(text_, fmt::format("{}/{}/{}", head_.id, i, known.size()));
    known.insert(id);
    return id;
  }

  void Emit(size_t i, AnswerPart part) {
    using Kind = AnswerPart::Kind;
    Running& running = choices_[i];
    if (part.kind == Kind::kToolCall) part.call.id = CallId(i, part.call.id);
    if (part.kind == Kind::kCallEnd) running.choice.end.has_calls = true;
    AnsweredPart answered{std::move(part), {}};
    const bool is_end = answered.part.kind == Kind::kCallEnd || answered.part.kind == Kind::kCallBroken;
    if (!is_end) answered.logprobs = std::exchange(running.logprobs, {});
    if (job_.stream) {
      BeginStream();
      responder_->Write(writer_->Part(i, answered));
    } else if (answered.part.kind == Kind::kCallBroken) {
      std::vector<AnsweredPart>& parts = running.choice.parts;
      MoveTo(&parts.back().logprobs, std::exchange(running.logprobs, {}));
      running.logprobs = std::move(parts.back().logprobs);  // they are its text's
      parts.pop_back();
    } else if (!is_end) {
      JoinPart(std::move(answered), &running.choice.parts);
    }
  }

  void BeginStream() {
    if (std::exchange(streaming_, true)) return;
    responder_->Begin(200, {{"content-type", "text/event-stream"}, {"cache-control", "no-cache"}});
    responder_->Write(writer_->Begin(head_, CountUsage()));
  }

  void OnDone(size_t i, const GenerateResult& result) {
    Running& running = choices_[i];
    running.cached_tokens = result.cached_tokens;
    if (result.error) {
      if (!failed_) failed_ = result.error;
    } else {
      End(i, result);
    }
    if (running.tokens > 1) {
      metrics_.ObserveTokenTime(SecondsBetween(running.first_token, running.last_token) /
                                static_cast<double>(running.tokens - 1));
    }
    metrics_.ObserveAnswer(SecondsBetween(begin_, Clock::now()), running.prompt_tokens, running.cached_tokens,
                           static_cast<int64_t>(result.tokens.size()));
    running.tokens = static_cast<int64_t>(result.tokens.size());
    if (--open_ == 0) Finish();
  }

  void End(size_t i, const GenerateResult& result) {
    Running& running = choices_[i];
    for (AnswerPart& part : running.parser->Flush(result.stopped())) Emit(i, std::move(part));
    ChoiceEnd& end = running.choice.end;
    end.reason = result.reason;
    if (const auto stop = running.parser->stopped_by()) end.stop_string = job_.parsing.stop_strings[*stop];
    end.logprobs = std::move(running.logprobs);
    if (!job_.stream) return;
    BeginStream();
    responder_->Write(writer_->End(i, end));
  }

  Usage CountUsage() const {
    Usage usage;
    // A prompt counts once, however many choices it has.
    const size_t each = choices_.size() / static_cast<size_t>(job_.prompts);
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (i % each == 0) usage.prompt += choices_[i].prompt_tokens;
      if (i % each == 0) usage.cached += choices_[i].cached_tokens;
      usage.generated += choices_[i].tokens;
      usage.reasoning += choices_[i].reasoning_tokens;
    }
    return usage;
  }

  void Finish() {
    if (failed_) {
      ApiError error = ToApiError(failed_);
      // Such as a grammar that leads to where no token may follow.
      if (job_.structured && error.status == 400 && error.param.empty()) error.param = job_.structured->field;
      if (!streaming_) return RespondError(*responder_, error, writer_->error_form());
      responder_->Write(writer_->Fail(error));  // the status is sent already
    } else if (job_.stream) {
      responder_->Write(writer_->Finish(CountUsage()));
    } else {
      std::vector<Choice> choices;
      for (Running& running : choices_) choices.push_back(std::move(running.choice));
      return RespondJson(*responder_, 200, writer_->Whole(head_, choices, CountUsage()));
    }
    responder_->End();
  }

  CompletionJob job_;
  const std::unique_ptr<AnswerWriter> writer_;
  const ServedText& text_;
  Engine& engine_;
  Metrics& metrics_;
  const std::shared_ptr<Responder> responder_;
  const AnswerHead head_;
  const Clock::time_point begin_;
  size_t open_;
  std::vector<Running> choices_;
  std::vector<Engine::Ticket> tickets_;
  std::exception_ptr failed_;
  bool streaming_ = false;
};

}  // namespace

std::string RandomId(const std::string& prefix) {
  static thread_local std::mt19937_64 random{std::random_device()()};
  return fmt::format("{}{:016x}{:08x}", prefix, random(), random() & 0xffffffffu);
}

void RunCompletion(CompletionJob job, std::unique_ptr<AnswerWriter> writer, const ServedText& text, Engine& engine,
                   Metrics& metrics, std::shared_ptr<Responder> responder) {
  std::make_shared<Completion>(std::move(job), std::move(writer), text, engine, metrics, std::move(responder))
      ->Prepare();
}

}  // namespace mxmla::serve
