#include "grammar/grammar_service.h"

namespace mxmla {

GrammarService::GrammarService(MakeGrammarCompiler make, const GrammarServiceOptions& options)
    : options_(options),
      make_(std::move(make)),
      trial_(HasGrammars() ? std::make_unique<GrammarTrial>(make_, options.limits) : nullptr) {
  for (int i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { Main(); });
}

GrammarService::~GrammarService() { Stop(); }

void GrammarService::Stop() {
  std::map<Key, std::vector<OnDone>> asked;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const Key& key : waiting_) asked.insert(asked_.extract(key));
    waiting_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  const GrammarOutcome ending{nullptr, ErrorCode::kInternal, "the server is about to end"};
  for (const auto& [key, waiters] : asked) {
    for (const OnDone& on_done : waiters) on_done(ending);
  }
}

int64_t GrammarService::open() const {
  const std::lock_guard lock(mutex_);
  int64_t count = 0;
  for (const auto& [key, waiters] : asked_) count += static_cast<int64_t>(waiters.size());
  return count;
}

int64_t GrammarService::hits() const {
  const std::lock_guard lock(mutex_);
  return hits_;
}

int64_t GrammarService::misses() const {
  const std::lock_guard lock(mutex_);
  return misses_;
}

bool GrammarService::Compile(const GrammarSource& source, OnDone on_done) {
  const Key key{source.kind, source.text};
  GrammarOutcome outcome;
  {
    const std::lock_guard lock(mutex_);
    const auto found = cached_.find(key);
    if (found == cached_.end()) {
      const auto asked = asked_.find(key);
      if (asked != asked_.end()) {
        asked->second.push_back(std::move(on_done));
        return true;
      }
      if (stopping_ || waiting_.size() >= options_.most_waiting) return false;
      ++misses_;
      asked_[key].push_back(std::move(on_done));
      waiting_.push_back(key);
      changed_.notify_one();
      return true;
    }
    ++hits_;
    cache_.splice(cache_.begin(), cache_, found->second);
    outcome = found->second->outcome;
  }
  on_done(outcome);
  return true;
}

GrammarService::Entry GrammarService::Make(const Key& key) {
  Entry entry;
  entry.key = key;
  try {
    const GrammarSource source{key.first, key.second};
    if (trial_) trial_->Check(source);
    std::call_once(made_, [this] { compiler_ = make_(); });
    entry.outcome.grammar = compiler_->Compile(source);
    entry.bytes = GrammarBytes(*entry.outcome.grammar);
  } catch (const Error& error) {
    entry.outcome = {nullptr, error.code(), error.what()};
  } catch (const std::exception& error) {
    entry.outcome = {nullptr, ErrorCode::kInternal, error.what()};
  }
  entry.bytes += key.second.size();
  return entry;
}

void GrammarService::Keep(Entry entry) {
  if (entry.bytes > options_.cache_bytes) return;
  cached_bytes_ += entry.bytes;
  cache_.push_front(std::move(entry));
  cached_[cache_.front().key] = cache_.begin();
  while (cached_bytes_ > options_.cache_bytes || cache_.size() > options_.cache_entries) {
    cached_bytes_ -= cache_.back().bytes;
    cached_.erase(cache_.back().key);
    cache_.pop_back();
  }
}

void GrammarService::Main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const Key key = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    Entry entry = Make(key);
    const GrammarOutcome outcome = entry.outcome;
    lock.lock();
    Keep(std::move(entry));
    const std::vector<OnDone> waiters = std::move(asked_.extract(key).mapped());
    lock.unlock();
    for (const OnDone& on_done : waiters) on_done(outcome);
    lock.lock();
  }
}

}  // namespace mxmla
