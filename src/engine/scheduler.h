// Continuous batching: requests join and leave at any step.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/kv_pool.h"
#include "engine/loaded_model.h"
#include "engine/request.h"
#include "model/decoder.h"

namespace mxmla {

using RequestId = int64_t;

// What one step did.
struct TickStats {
  int64_t prompt_tokens = 0;  // rows of prompts, recomputed ones too
  int64_t decode_rows = 0;
  int64_t new_tokens = 0;
  bool queued_next = false;  // the next step was queued before this one's tokens were known
};

// A request's tokens are the same bits whatever else runs: its prompt is cut at multiples of the prefill chunk,
// absorbed or expanded attention follows from a piece's own positions, every op's row results do not depend on the
// other rows, and shared pages hold what the request would have computed itself. A step decodes one token of up to
// max_batch_tokens requests, in turn where there are more, and takes a whole piece of a prompt, and more of them while
// all rows are no more than max_batch_tokens: one of each client, then the next of each; then further ones of the same
// prompts. Of those that wait, the client goes first that has the fewest
// running; a client's own are first come, first served. A request without pages waits; when a running one needs a page
// and none is left, the one that came last gives up its own and is computed anew later.
//
// With ModelOptions::queues_ahead a device is given the next step while it runs one: tokens that the host has not seen
// are named by their rows. It is not, where a request's next token needs what only the host knows (penalties,
// restrict_tokens), where the cache is full, or where another request could join. The row of a request that turns out
// to have ended is computed for nothing.
//
// For one thread; callbacks may call Submit and Cancel.
class Scheduler {
 public:
  using OnDone = std::function<void(RequestId, const GenerateResult&)>;

  // Sizes as in ModelOptions: max_sequences requests run at once, the others wait; kv_pages 0 gives each of them room
  // for max_context tokens. Refused: max_context above the model's max_position_embeddings (kPromptTooLong).
  Scheduler(const LoadedModel& model, const ModelOptions& options, Profiler* profiler = nullptr);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Queues a request; on_done is called once, from a Tick, with its result. Refused: an empty prompt or stop string, a
  // sampling option outside its range or more than kMaxBiases biases (kUsage), a token outside the vocabulary
  // (kTokenRange), a prompt and max_tokens beyond max_context (kPromptTooLong) or beyond what the whole cache holds
  // (kMemory).
  RequestId Submit(GenerateRequest request, OnDone on_done = {});
  // The request ends in the next Tick, with the tokens it has. False when it is not there (any more).
  bool Cancel(RequestId id);

  bool idle() const { return running_.empty() && waiting_.empty(); }
  // One step: its tokens are handed out, and the next may have been queued. Must not be called by a callback. What a
  // step itself throws (a bug, memory) leaves the scheduler unusable.
  TickStats Tick();

  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t preemptions() const { return preemptions_; }
  const KvPool& pool() const { return pool_; }
  const ModelOptions& options() const { return options_; }
  size_t buffer_bytes() const { return decoder_.total_bytes(); }
  // Kernels of the last step and their time on the device, where it can tell; else 0.
  int64_t launches() const { return decoder_.launches(); }
  double device_seconds() const { return decoder_.device_seconds(); }

 private:
  struct Active;
  struct Piece {
    Active* request;
    int64_t begin;
    int64_t rows;
    bool absorbed;
    bool sampled;
  };
  // Of a request that ended since: null.
  struct Step {
    std::vector<Piece> pieces;
    std::vector<Active*> sampled;  // of each row of logits
    TickStats stats;

    void Clear() {
      pieces.clear();
      sampled.clear();
      stats = {};
    }
  };
  using Queue = std::deque<std::unique_ptr<Active>>;

  Piece NextPiece(Active& request) const;
  bool Reserve(Active& request, int64_t tokens);
  void Preempt(size_t index);
  void AddDecodeRows();
  void AddPrompts();
  void Admit();
  Queue::iterator NextToAdmit();
  void TakeTurn(uint64_t client);
  void Add(const Piece& piece, Step* step);
  SequenceInput Input(const Piece& piece, Step* step);
  void QueueStep();
  bool FindRowsAhead();
  void QueueAhead();
  void TakeStep();
  RowSampling Sampling(Active& request);
  void Accept(const StepResult& result);
  void Accept(Active& request, int32_t token, TokenLogprobs logprobs);
  void Finish(Active& request, FinishReason reason, std::exception_ptr error = nullptr);
  void Sweep();

  const LoadedModel& model_;
  const ModelOptions options_;
  KvPool pool_;
  Decoder decoder_;
  Queue running_;  // in the order of their ids
  Queue waiting_;  // likewise
  RequestId next_id_ = 0;
  int64_t turns_ = 0;            // requests that were admitted
  RequestId last_decoded_ = -1;  // where the turn of decoding requests goes on
  int64_t preemptions_ = 0;

  Step step_, ahead_;  // that is planned or queued, and that is queued behind it; empty: none

  // Kept for their memory.
  std::vector<SequenceInput> inputs_;
  std::vector<int32_t> unseen_tokens_;                // of ahead_: -1 - a row of step_
  std::unordered_map<uint64_t, int64_t> counts_;      // of each client's requests
  std::vector<std::pair<int64_t, Active*>> prompts_;  // with how many of its client's stand before each
  TickStats stats_;
};

}  // namespace mxmla
