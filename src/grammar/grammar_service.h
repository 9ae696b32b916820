// Grammars for a server: compiled in the background, within limits, and kept for the next request that asks for them.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "grammar/grammar.h"
#include "grammar/trial.h"

namespace mxmla {

struct GrammarServiceOptions {
  GrammarLimits limits;
  int threads = 2;
  size_t most_waiting = 256;               // sources
  size_t cache_bytes = size_t{256} << 20;  // of compiled grammars
  size_t cache_entries = 1024;             // and of refusals
};

// A grammar, or why there is none: the Error that GrammarTrial::Check or GrammarCompiler::Compile threw.
struct GrammarOutcome {
  std::shared_ptr<const CompiledGrammar> grammar;
  ErrorCode code = ErrorCode::kInternal;
  std::string error;
};

class GrammarService {
 public:
  // Called on a thread of the service, or by Compile at once.
  using OnDone = std::function<void(const GrammarOutcome&)>;

  // To be made before the program has threads (GrammarTrial). In a build without xgrammar everything is refused.
  explicit GrammarService(MakeGrammarCompiler make, const GrammarServiceOptions& options = {});
  ~GrammarService();
  GrammarService(const GrammarService&) = delete;
  GrammarService& operator=(const GrammarService&) = delete;

  // False, without a call of on_done, when too many sources wait.
  bool Compile(const GrammarSource& source, OnDone on_done);

  // Refuses what waits (kInternal) and joins the threads.
  void Stop();

  // Calls of on_done that are still to come.
  int64_t open() const;
  // Of all compiled so far: found in the cache, and compiled.
  int64_t hits() const;
  int64_t misses() const;

 private:
  using Key = std::pair<GrammarKind, std::string>;
  struct Entry {
    Key key;
    GrammarOutcome outcome;
    size_t bytes = 0;
  };

  void Main();
  Entry Make(const Key& key);
  void Keep(Entry entry);  // with the mutex held

  const GrammarServiceOptions options_;
  const MakeGrammarCompiler make_;
  const std::unique_ptr<GrammarTrial> trial_;
  std::once_flag made_;
  std::unique_ptr<GrammarCompiler> compiler_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::list<Key> waiting_;
  std::map<Key, std::vector<OnDone>> asked_;  // who waits for what is waiting or being compiled
  std::list<Entry> cache_;                    // the last used first
  std::map<Key, std::list<Entry>::iterator> cached_;
  size_t cached_bytes_ = 0;
  int64_t hits_ = 0, misses_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace mxmla
