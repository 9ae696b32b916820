#include "engine/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <random>

#include "engine/random_rows.h"
#include "engine/session.h"
#include "text/stream_decoder.h"

namespace mxmla {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t PrefillChunk(const ModelOptions& options) {
  return std::max<int64_t>(1, std::min(options.prefill_chunk, options.max_batch_tokens));
}

// What the decoder must hold: a turn of decoding rows beside a full load of prompt rows, so that neither waits for the
// other to leave room; each of a prompt's pieces is a sequence to it.
ModelOptions DecoderOptions(ModelOptions options) {
  options.max_logit_rows = options.max_sequences;
  options.max_sequences += options.max_batch_tokens / PrefillChunk(options) - 1;
  options.max_batch_tokens += std::min(options.max_logit_rows, options.max_batch_tokens);
  return options;
}

void CheckRange(const char* name, double low, double high, double found) {
  if (found >= low && found <= high) return;  // not NaN
  Fail(ErrorCode::kUsage, name, fmt::format("a number in {}..{}", low, high), fmt::format("{}", found));
}

void CheckSampling(const GenerateRequest& request, int64_t vocab_size) {
  constexpr double kMost = std::numeric_limits<float>::max();
  const SamplingOptions& options = request.sampling;
  CheckRange("temperature", 0, kMost, static_cast<double>(options.temperature));
  CheckRange("top_k", 0, static_cast<double>(std::numeric_limits<int64_t>::max()), static_cast<double>(options.top_k));
  CheckRange("top_p", 0, 1, static_cast<double>(options.top_p));
  CheckRange("min_p", 0, 1, static_cast<double>(options.min_p));
  CheckRange("repetition_penalty", std::numeric_limits<float>::min(), kMost,
             static_cast<double>(options.repetition_penalty));
  CheckRange("presence_penalty", -kMost, kMost, static_cast<double>(options.presence_penalty));
  CheckRange("frequency_penalty", -kMost, kMost, static_cast<double>(options.frequency_penalty));
  CheckRange("top_logprobs", 0, kMaxTopLogprobs, options.top_logprobs);
  if (static_cast<int64_t>(request.logit_bias.size()) > kMaxBiases) {
    Fail(ErrorCode::kUsage, "logit_bias", fmt::format("at most {} tokens", kMaxBiases),
         fmt::format("{}", request.logit_bias.size()));
  }
  for (const LogitBias& bias : request.logit_bias) {
    CheckTokens({&bias.token, 1}, vocab_size);
    CheckRange("logit_bias", -kMost, kMost, static_cast<double>(bias.value));
  }
}

}  // namespace

struct Scheduler::Active {
  RequestId id = 0;
  GenerateRequest request;
  OnDone on_done;
  GenerateResult result;
  std::vector<int32_t> tokens;  // the prompt and what was generated
  int64_t cached = 0;           // tokens whose KV is in the pages
  int64_t planned = 0;          // and, in a step, those whose KV will be
  bool decoding = false;        // one token is not in the cache, and the prompt was computed
  bool ended = false;
  bool in_step = false;
  int64_t turn = 0;  // turns_ when it came, or when its client was served last
  Lease lease;
  std::mt19937_64 random;
  std::vector<int32_t> bias_tokens;
  std::vector<float> bias_values;
  std::vector<uint32_t> allowed;  // restrict_tokens' bits
  // What penalties apply to: tokens of the prompt (for a repetition penalty) and of the output, with how often they are
  // in the output.
  std::vector<int32_t> seen_tokens;
  std::vector<int32_t> seen_counts;
  std::unordered_map<int32_t, size_t> seen_index;
  std::optional<TextOutput> text;

  bool penalised() const {
    const SamplingOptions& options = request.sampling;
    return options.repetition_penalty != 1 || options.presence_penalty != 0 || options.frequency_penalty != 0;
  }

  void See(int32_t token, int32_t count) {
    const auto [at, is_new] = seen_index.try_emplace(token, seen_tokens.size());
    if (is_new) {
      seen_tokens.push_back(token);
      seen_counts.push_back(0);
    }
    seen_counts[at->second] += count;
  }

  // Hands out text; false when on_text ends the request.
  bool Emit(const std::string& piece) {
    result.text += piece;
    return piece.empty() || !request.on_text || request.on_text(piece);
  }

  // No token will follow.
  void EmitRest() {
    const std::string rest = text->Flush();
    if (result.error) {
      result.text += rest;
      return;
    }
    try {
      Emit(rest);
    } catch (...) {
      result.reason = FinishReason::kError;
      result.error = std::current_exception();
    }
  }
};

Scheduler::Scheduler(const LoadedModel& model, const ModelOptions& options, Profiler* profiler)
    : model_(model),
      options_(CompleteOptions(model, options)),
      pool_(options_.kv_pages, options_.page_size),
      decoder_(model.config, model.Placed(DecoderOptions(options_)), DecoderOptions(options_), *model.backend,
               profiler) {}

Scheduler::~Scheduler() = default;

RequestId Scheduler::Submit(GenerateRequest request, OnDone on_done) {
  if (request.prompt.empty()) Fail(ErrorCode::kUsage, "prompt", "at least one token", "none");
  CheckTokens(request.prompt, model_.config.vocab_size);
  const int64_t most = static_cast<int64_t>(request.prompt.size()) + std::max<int64_t>(request.max_tokens, 0);
  if (most > options_.max_context) {
    Fail(ErrorCode::kPromptTooLong, "request", fmt::format("at most {} tokens", options_.max_context),
         fmt::format("{} of prompt and {} new ones", request.prompt.size(), request.max_tokens),
         "shorten the prompt or ask for fewer new tokens");
  }
  if (CeilDiv(most, options_.page_size) > pool_.pages()) {
    Fail(ErrorCode::kMemory, "request", fmt::format("at most the KV cache's {} pages", pool_.pages()),
         fmt::format("{} tokens", most), "ask for fewer tokens or give the cache more pages");
  }
  if (!request.tokenizer && (!request.stop_strings.empty() || request.on_text)) {
    Fail(ErrorCode::kInternal, "request", "a tokenizer for its stop strings and on_text", "none");
  }
  if (request.random_rows < 0 || request.random_rows >= static_cast<int64_t>(request.prompt.size())) {
    Fail(ErrorCode::kInternal, "request", fmt::format("0 to {} random rows", request.prompt.size() - 1),
         fmt::format("{}", request.random_rows));
  }
  CheckSampling(request, model_.config.vocab_size);
  auto active = std::make_unique<Active>();
  if (request.tokenizer) active->text.emplace(*request.tokenizer, request.stop_strings, request.skip_special_tokens);
  active->id = next_id_++;
  active->turn = turns_;
  active->tokens = request.prompt;
  active->random.seed(request.seed);
  for (const LogitBias& bias : request.logit_bias) {
    active->bias_tokens.push_back(bias.token);
    active->bias_values.push_back(bias.value);
  }
  if (request.restrict_tokens) active->allowed.resize(static_cast<size_t>(MaskWords(model_.config.vocab_size)));
  if (request.sampling.repetition_penalty != 1) {
    for (const int32_t token : request.prompt) active->See(token, 0);
  }
  active->request = std::move(request);
  active->on_done = std::move(on_done);
  waiting_.push_back(std::move(active));
  return waiting_.back()->id;
}

bool Scheduler::Cancel(RequestId id) {
  for (Queue* queue : {&running_, &waiting_}) {
    for (const std::unique_ptr<Active>& active : *queue) {
      if (active->id != id || active->ended) continue;
      Finish(*active, FinishReason::kCancelled);
      return true;
    }
  }
  return false;
}

void Scheduler::Finish(Active& request, FinishReason reason, std::exception_ptr error) {
  request.ended = true;
  request.result.reason = reason;
  request.result.error = std::move(error);
}

// The tokens that come next. Prompts are cut at multiples of the chunk; what was generated and lost to a pre-emption is
// computed as it was at first, absorbed, many rows at a time.
Scheduler::Piece Scheduler::NextPiece(Active& request) const {
  const int64_t chunk = PrefillChunk(options_);
  const auto prompt = static_cast<int64_t>(request.request.prompt.size());
  const auto all = static_cast<int64_t>(request.tokens.size());
  const int64_t begin = std::max(request.cached, request.planned);
  if (begin < prompt) {
    const int64_t end = std::min((begin / chunk + 1) * chunk, prompt);
    return {&request, begin, end - begin, false, end == all};
  }
  const int64_t end = std::min(begin + chunk, all);
  return {&request, begin, end - begin, true, end == all};
}

void Scheduler::Preempt(size_t index) {
  std::unique_ptr<Active> active = std::move(running_[index]);
  running_.erase(running_.begin() + static_cast<int64_t>(index));
  active->lease.Release();
  active->cached = 0;
  active->decoding = false;
  ++preemptions_;
  const auto later = std::find_if(waiting_.begin(), waiting_.end(),
                                  [&](const std::unique_ptr<Active>& other) { return other->id > active->id; });
  waiting_.insert(later, std::move(active));
}

// Room for `tokens` tokens, if need be at the cost of requests that came later. False: the request itself was the last
// and lost its pages.
bool Scheduler::Reserve(Active& request, int64_t tokens) {
  while (!pool_.TryReserve(request.lease, tokens)) {
    // One that is in this step already keeps its pages until the step has run.
    size_t last = running_.size();
    for (size_t i = running_.size(); i-- > 0;) {
      if (running_[i]->in_step || running_[i]->ended || running_[i]->lease.pages().empty()) continue;
      last = i;
      break;
    }
    if (last == running_.size()) return false;
    const bool itself = running_[last].get() == &request;
    Preempt(last);
    if (itself) return false;
  }
  return true;
}

void Scheduler::Add(const Piece& piece, Step* step) {
  piece.request->in_step = true;
  piece.request->planned = piece.begin + piece.rows;
  step->pieces.push_back(piece);
  (piece.absorbed && piece.rows == 1 ? step->stats.decode_rows : step->stats.prompt_tokens) += piece.rows;
}

void Scheduler::AddDecodeRows() {
  int64_t room = std::min(options_.max_sequences, options_.max_batch_tokens);
  // In turn: those behind the last that was served, then the others.
  const RequestId turn = last_decoded_;
  for (const bool behind : {true, false}) {
    for (size_t i = 0; i < running_.size() && room > 0;) {
      Active& request = *running_[i];
      const RequestId id = request.id;
      if (request.decoding && !request.ended && !request.in_step && (id > turn) == behind &&
          Reserve(request, request.cached + 1)) {
        Add(NextPiece(request), &step_);
        last_decoded_ = id;
        --room;
      }
      // Pre-emption takes requests out behind this one, or this one itself.
      if (i < running_.size() && running_[i]->id == id) ++i;
    }
  }
}

// The oldest of the client that has the fewest running, as counts_ has them; of several, of that which was served least
// lately. A client that comes later cannot pass those that wait, so nobody waits for ever.
Scheduler::Queue::iterator Scheduler::NextToAdmit() {
  const auto running = [&](const std::unique_ptr<Active>& active) {
    const auto count = counts_.find(active->request.client);
    return count == counts_.end() ? 0 : count->second;
  };
  return std::min_element(waiting_.begin(), waiting_.end(), [&](const auto& a, const auto& b) {
    const int64_t of_a = running(a), of_b = running(b);
    return of_a != of_b ? of_a < of_b : a->turn < b->turn;  // else the older, which stands first
  });
}

// The client's other requests come behind those that wait already.
void Scheduler::TakeTurn(uint64_t client) {
  ++counts_[client];
  ++turns_;
  for (const std::unique_ptr<Active>& active : waiting_) {
    if (active->request.client == client) active->turn = turns_;
  }
}

void Scheduler::Admit() {
  if (waiting_.empty()) return;
  counts_.clear();
  for (const std::unique_ptr<Active>& active : running_) ++counts_[active->request.client];
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < options_.max_sequences) {
    const auto next = NextToAdmit();
    Active& request = **next;
    if (!request.ended) {
      if (request.request.max_tokens <= 0) {
        Finish(request, FinishReason::kLength);
      } else {
        Lease lease;
        if (options_.prefix_cache && request.request.random_rows == 0) {
          lease =
              pool_.MatchPrefix(request.request.prompt, 0, std::numeric_limits<int64_t>::max(), PrefillChunk(options_));
        }
        // Room for all that is known and one more, so that it is not at once in need of others' pages.
        if (!pool_.TryReserve(lease, static_cast<int64_t>(request.tokens.size()) + 1)) return;
        request.cached = lease.matched_tokens();
        request.result.cached_tokens = std::max(request.result.cached_tokens, request.cached);
        request.lease = std::move(lease);
        if (request.request.random_rows > 0) {
          request.cached = request.request.random_rows;
          WriteRandomRows(*model_.backend, decoder_.activations(), request.lease.pages(), 0, request.cached,
                          static_cast<uint64_t>(request.id) << 32);
        }
      }
    }
    TakeTurn(request.request.client);
    running_.push_back(std::move(*next));
    waiting_.erase(next);
    // One that is older than others may come behind them: of another client, or pre-empted.
    for (size_t i = running_.size() - 1; i > 0 && running_[i]->id < running_[i - 1]->id; --i) {
      std::swap(running_[i], running_[i - 1]);
    }
  }
}

void Scheduler::AddPrompts() {
  counts_.clear();
  prompts_.clear();
  for (const std::unique_ptr<Active>& request : running_) {
    if (request->ended || request->in_step || request->decoding) continue;
    prompts_.emplace_back(counts_[request->request.client]++, request.get());
  }
  std::ranges::stable_sort(prompts_, {}, &std::pair<int64_t, Active*>::first);
  auto rows = static_cast<int64_t>(step_.pieces.size());  // those that decode
  bool first = true;                                      // which finds room beside them
  // A piece of each, then the next of each: a piece reads what those before it write in the same step.
  for (bool more = true; more;) {
    more = false;
    for (const auto& [before, request] : prompts_) {
      const Piece piece = NextPiece(*request);
      if (piece.rows == 0) continue;
      // Those behind it wait their turn.
      if (!first && rows + piece.rows > options_.max_batch_tokens) return;
      if (std::ssize(step_.pieces) == decoder_.options().max_sequences) return;
      Add(piece, &step_);
      rows += piece.rows;
      first = false;
      more = true;
    }
  }
}

TickStats Scheduler::Tick() {
  stats_ = {};
  Sweep();
  const auto ended = [](const Piece& piece) { return piece.request == nullptr; };
  // A step that nobody waits for any more, or that the profiler does not see.
  if (!step_.pieces.empty() && (decoder_.profiled() || std::ranges::all_of(step_.pieces, ended))) TakeStep();
  if (step_.pieces.empty()) {
    AddDecodeRows();
    Admit();
    AddPrompts();
    if (!step_.pieces.empty()) QueueStep();
  }
  stats_.queued_next = FindRowsAhead();
  if (stats_.queued_next) QueueAhead();
  if (!step_.pieces.empty()) TakeStep();
  Sweep();
  return stats_;
}

void Scheduler::QueueStep() {
  inputs_.clear();
  for (const Piece& piece : step_.pieces) {
    SequenceInput input = Input(piece, &step_);
    input.tokens =
        std::span(piece.request->tokens).subspan(static_cast<size_t>(piece.begin), static_cast<size_t>(piece.rows));
    inputs_.push_back(std::move(input));
  }
  decoder_.Queue(inputs_);
}

// Whether every running request will have a new token behind step_, each of which can be a row of ahead_, where they
// are put.
bool Scheduler::FindRowsAhead() {
  if (!*options_.queues_ahead || decoder_.profiled()) return false;
  if (!waiting_.empty() && std::ssize(running_) < options_.max_sequences) return false;
  const auto lives = [](const auto& request) { return request && !request->ended; };
  const auto sampled = std::ranges::count_if(step_.sampled, lives);
  if (sampled == 0 || sampled != std::ranges::count_if(running_, lives)) return false;
  unseen_tokens_.clear();
  for (size_t row = 0; row < step_.sampled.size(); ++row) {
    Active* const request = step_.sampled[row];
    if (!lives(request)) continue;
    const int64_t known = std::ssize(request->tokens);  // the row's token comes behind them
    const bool on_host = request->penalised() || request->request.restrict_tokens;
    const bool is_last = std::ssize(request->result.tokens) + 1 >= request->request.max_tokens;
    if (on_host || (!is_last && !pool_.TryReserve(request->lease, known + 1))) {
      ahead_.Clear();
      return false;
    }
    if (is_last) continue;
    unseen_tokens_.push_back(-1 - static_cast<int32_t>(row));
    Add({request, known, 1, true, true}, &ahead_);
  }
  return !ahead_.pieces.empty();
}

void Scheduler::QueueAhead() {
  inputs_.clear();
  for (size_t i = 0; i < ahead_.pieces.size(); ++i) {
    inputs_.push_back(Input(ahead_.pieces[i], &ahead_));
    inputs_.back().tokens = std::span(unseen_tokens_).subspan(i, 1);
  }
  decoder_.Queue(inputs_);
}

// Waits for step_ and hands out its tokens; the step behind it takes its place.
void Scheduler::TakeStep() {
  const StepResult result = decoder_.Take();
  const int64_t chunk = PrefillChunk(options_);
  for (const Piece& piece : step_.pieces) {
    if (!piece.request) continue;
    Active& request = *piece.request;
    request.in_step = false;
    request.cached += piece.rows;
    request.planned = 0;
    request.decoding = piece.sampled;
    const int64_t whole = std::min<int64_t>(request.cached, static_cast<int64_t>(request.request.prompt.size())) /
                          chunk * chunk / options_.page_size * options_.page_size;
    // Only whole chunks: another prompt with the same beginning is cut in the same places, so they are what it would
    // compute itself.
    if (options_.prefix_cache && request.request.random_rows == 0 && whole > 0 && piece.begin < whole &&
        chunk % options_.page_size == 0) {
      pool_.Publish(request.lease, std::span(request.tokens).first(static_cast<size_t>(whole)));
    }
  }
  stats_.prompt_tokens += step_.stats.prompt_tokens;
  stats_.decode_rows += step_.stats.decode_rows;
  Accept(result);
  std::swap(step_, ahead_);
  ahead_.Clear();
}

SequenceInput Scheduler::Input(const Piece& piece, Step* step) {
  Active& request = *piece.request;
  SequenceInput input;
  input.first_position = piece.begin;
  input.block_table = request.lease.pages();
  input.absorbed = piece.absorbed;
  if (!piece.sampled) return input;
  try {
    input.sampling.push_back(Sampling(request));
    input.logit_rows.push_back(static_cast<int32_t>(piece.rows - 1));
    step->sampled.push_back(&request);
  } catch (...) {
    Finish(request, FinishReason::kError, std::current_exception());
  }
  return input;
}

RowSampling Scheduler::Sampling(Active& request) {
  RowSampling sampling;
  sampling.options = request.request.sampling;
  // 24 bits: every value of the form i / 2^24 is exact, and 1 is never reached.
  sampling.uniform = static_cast<float>(request.random() >> 40) * 0x1p-24f;
  sampling.logprobs = request.request.logprobs;
  if (request.penalised()) {
    sampling.penalty_tokens = request.seen_tokens;
    sampling.penalty_counts = request.seen_counts;
  }
  sampling.bias_tokens = request.bias_tokens;
  sampling.bias_values = request.bias_values;
  if (request.request.restrict_tokens) {
    std::ranges::fill(request.allowed, ~0u);
    request.request.restrict_tokens(request.result.tokens, request.allowed);
    sampling.allowed = request.allowed;
  }
  return sampling;
}

void Scheduler::Accept(const StepResult& result) {
  for (size_t r = 0; r < step_.sampled.size(); ++r) {
    if (!step_.sampled[r]) continue;
    Active& request = *step_.sampled[r];
    TokenLogprobs logprobs;
    if (request.request.logprobs) {
      const auto row = static_cast<int64_t>(r);
      logprobs.chosen = result.logprobs(row);
      for (int64_t i = 0; i < request.request.sampling.top_logprobs && result.top_tokens(row, i) >= 0; ++i) {
        logprobs.top.push_back({result.top_tokens(row, i), result.top_logprobs(row, i)});
      }
    }
    Accept(request, result.tokens(static_cast<int64_t>(r)), std::move(logprobs));
  }
}

void Scheduler::Accept(Active& request, int32_t token, TokenLogprobs logprobs) {
  if (request.ended) return;  // cancelled by a callback of this step
  try {
    if (token == kNothingAllowed) {
      Fail(ErrorCode::kUsage, fmt::format("token {} of the answer", request.result.tokens.size()),
           "a token that is allowed and has a finite logit", "none");
    }
    if (token < 0) FailNanLogits(request.cached);
    const std::vector<int32_t>& stops = request.request.stop_tokens;
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
      request.result.stop_token = token;
      return Finish(request, FinishReason::kStop);
    }
    request.tokens.push_back(token);
    request.result.tokens.push_back(token);
    if (request.request.logprobs) {
      request.result.logprobs.push_back(std::move(logprobs));
      if (request.request.on_logprobs) request.request.on_logprobs(request.result.logprobs.back());
    }
    if (request.penalised()) request.See(token, 1);
    ++stats_.new_tokens;
    bool goes_on = !request.request.on_token || request.request.on_token(token);
    if (request.text) goes_on = request.Emit(request.text->Push(token)) && goes_on;
    if (request.ended) return;
    if (request.text && request.text->stopped_by()) {
      request.result.stop_string = static_cast<int32_t>(*request.text->stopped_by());
      goes_on = false;
    }
    if (!goes_on) return Finish(request, FinishReason::kStop);
    if (static_cast<int64_t>(request.result.tokens.size()) >= request.request.max_tokens) {
      Finish(request, FinishReason::kLength);
    }
  } catch (...) {
    Finish(request, FinishReason::kError, std::current_exception());
  }
}

// Takes out what has ended; its pages come back before its on_done is called.
void Scheduler::Sweep() {
  std::vector<std::unique_ptr<Active>> ended;
  for (Queue* queue : {&running_, &waiting_}) {
    const auto first = std::stable_partition(queue->begin(), queue->end(),
                                             [](const std::unique_ptr<Active>& active) { return !active->ended; });
    std::move(first, queue->end(), std::back_inserter(ended));
    queue->erase(first, queue->end());
  }
  for (Step* step : {&step_, &ahead_}) {
    for (Piece& piece : step->pieces) {
      if (piece.request && piece.request->ended) piece.request = nullptr;
    }
    std::ranges::replace_if(
        step->sampled, [](const Active* request) { return request && request->ended; }, nullptr);
  }
  // What a queued step still writes to these pages it writes before a later step does.
  for (const std::unique_ptr<Active>& active : ended) active->lease.Release();
  for (const std::unique_ptr<Active>& active : ended) {
    if (active->text) active->EmitRest();
    if (active->on_done) active->on_done(active->id, active->result);
  }
}

}  // namespace mxmla
