#include "engine/kv_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>

#include "core/error.h"

namespace mxmla {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Tokens = std::vector<int32_t>;

Tokens Count(int64_t tokens, int32_t first = 0) {
  Tokens result(tokens);
  std::iota(result.begin(), result.end(), first);
  return result;
}

std::vector<int32_t> Pages(const Lease& lease) { return {lease.pages().begin(), lease.pages().end()}; }

// A lease of the sequence, found, reserved and published.
Lease RunSequence(KvPool& pool, const Tokens& tokens, uint64_t salt = 0) {
  Lease lease = pool.MatchPrefix(tokens, salt);
  EXPECT_TRUE(pool.TryReserve(lease, static_cast<int64_t>(tokens.size())));
  pool.Publish(lease, tokens);
  pool.Check();
  return lease;
}

template <typename F>
void ExpectInternal(F call) {
  try {
    call();
    ADD_FAILURE() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInternal) << error.what();
  }
}

TEST(KvPool, ReservesWholePagesOrNothing) {
  KvPool pool(4, 8);
  Lease a, b;
  EXPECT_TRUE(pool.TryReserve(a, 0));
  EXPECT_THAT(a.pages(), IsEmpty());
  EXPECT_TRUE(pool.TryReserve(a, 9));
  EXPECT_THAT(a.pages(), ElementsAre(0, 1));
  EXPECT_TRUE(pool.TryReserve(a, 16));
  EXPECT_TRUE(pool.TryReserve(a, 1));
  EXPECT_EQ(a.pages().size(), 2u);
  EXPECT_FALSE(pool.TryReserve(b, 17));
  EXPECT_FALSE(pool.TryReserve(b, std::numeric_limits<int64_t>::max()));
  EXPECT_THAT(b.pages(), IsEmpty());
  EXPECT_TRUE(pool.TryReserve(b, 16));
  EXPECT_FALSE(pool.TryReserve(a, 17));
  EXPECT_EQ(pool.used_pages(), 4);
  a = std::move(b);
  EXPECT_EQ(pool.used_pages(), 2);
  EXPECT_THAT(a.pages(), ElementsAre(2, 3));
  pool.Check();
}

TEST(KvPool, AnExceptionReturnsThePages) {
  KvPool pool(4, 8);
  try {
    Lease lease;
    ASSERT_TRUE(pool.TryReserve(lease, 32));
    throw std::runtime_error("cancelled");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(pool.free_pages(), 4);
  pool.Check();
}

TEST(KvPool, SharesThePagesOfAPrefix) {
  KvPool pool(8, 4);
  const Lease first = RunSequence(pool, Count(10));
  Tokens tokens = Count(10);
  tokens[9] = 99;
  const Lease second = pool.MatchPrefix(tokens, 0);
  EXPECT_EQ(second.matched_tokens(), 8);
  EXPECT_EQ(Pages(second), std::vector<int32_t>({first.pages()[0], first.pages()[1]}));
  EXPECT_EQ(pool.references(first.pages()[0]), 2);
  EXPECT_EQ(pool.references(first.pages()[2]), 1);
  tokens[5] = 99;
  EXPECT_EQ(pool.MatchPrefix(tokens, 0).matched_tokens(), 4);
  tokens[0] = 99;
  EXPECT_EQ(pool.MatchPrefix(tokens, 0).matched_tokens(), 0);
  EXPECT_EQ(pool.MatchPrefix(Count(10), 1).matched_tokens(), 0);  // another salt
  EXPECT_EQ(pool.used_pages(), 3);
  EXPECT_EQ(pool.stats().lookups, 5);
  EXPECT_EQ(pool.stats().hits, 2);
  EXPECT_EQ(pool.stats().lookup_tokens, 50);
  EXPECT_EQ(pool.stats().matched_tokens, 12);
  pool.Check();
}

TEST(KvPool, LeavesTheLastTokenAndHonoursMaximumAndAlignment) {
  KvPool pool(8, 4);
  const Tokens tokens = Count(24);
  const Lease lease = RunSequence(pool, tokens);
  EXPECT_EQ(pool.MatchPrefix(tokens, 0).matched_tokens(), 20);
  EXPECT_EQ(pool.MatchPrefix(Count(25), 0).matched_tokens(), 24);
  EXPECT_EQ(pool.MatchPrefix(tokens, 0, 19).matched_tokens(), 16);
  EXPECT_EQ(pool.MatchPrefix(tokens, 0, 0).matched_tokens(), 0);
  EXPECT_EQ(pool.MatchPrefix(tokens, 0, 1000, 6).matched_tokens(), 12);
  EXPECT_EQ(pool.MatchPrefix(tokens, 0, 1000, 16).matched_tokens(), 16);
  EXPECT_EQ(pool.MatchPrefix(tokens, 0, 1000, std::numeric_limits<int64_t>::max()).matched_tokens(), 0);
  EXPECT_EQ(pool.MatchPrefix({}, 0).matched_tokens(), 0);
  EXPECT_EQ(pool.MatchPrefix(Count(1), 0).matched_tokens(), 0);
  pool.Check();
}

TEST(KvPool, EvictsTheLeastRecentlyUsedFromTheEndsOfChains) {
  KvPool pool(6, 4);
  Lease a = RunSequence(pool, Count(12));       // pages 0, 1, 2
  Lease b = RunSequence(pool, Count(12, 100));  // pages 3, 4, 5
  a.Release();
  b.Release();
  EXPECT_EQ(pool.cached_pages(), 6);
  EXPECT_EQ(pool.MatchPrefix(Count(9), 0).matched_tokens(), 8);  // uses 0 and 1
  Lease c;
  ASSERT_TRUE(pool.TryReserve(c, 5 * 4));
  EXPECT_THAT(c.pages(), ElementsAre(2, 5, 4, 3, 1));
  EXPECT_EQ(pool.stats().evicted_pages, 5);
  EXPECT_EQ(pool.MatchPrefix(Count(12), 0).matched_tokens(), 4);
  pool.Check();
}

TEST(KvPool, AnEvictedParentUnpublishesPagesInUse) {
  KvPool pool(5, 2);
  Lease first = RunSequence(pool, {1, 2});
  Lease second;
  ASSERT_TRUE(pool.TryReserve(second, 4));
  pool.Publish(second, Tokens{1, 2, 3, 4});  // its first page stays private, its second follows the first's
  EXPECT_THAT(pool.MatchPrefix(Tokens{1, 2, 3, 4, 5}, 0).pages(), ElementsAre(first.pages()[0], second.pages()[1]));
  first.Release();
  pool.Check();
  Lease third;
  ASSERT_TRUE(pool.TryReserve(third, 6));
  pool.Check();
  EXPECT_EQ(pool.MatchPrefix(Tokens{1, 2, 3, 4, 5}, 0).matched_tokens(), 0);
  pool.Publish(second, Tokens{1, 2, 3, 4});
  EXPECT_EQ(Pages(pool.MatchPrefix(Tokens{1, 2, 3, 4, 5}, 0)), Pages(second));
  pool.Check();
}

TEST(KvPool, CollidingHashesFindTheRightTokens) {
  KvPool pool(32, 2, 0);
  std::vector<Lease> leases;
  for (int32_t i = 0; i < 10; ++i) leases.push_back(RunSequence(pool, {i, 0, 7, 7, 8}, i % 2));
  for (int32_t i = 0; i < 10; ++i) {
    const Lease found = pool.MatchPrefix(Tokens{i, 0, 7, 7, 8}, i % 2);
    EXPECT_THAT(found.pages(), ElementsAre(leases[i].pages()[0], leases[i].pages()[1]));
    EXPECT_THAT(pool.MatchPrefix(Tokens{i, 0, 7, 7, 8}, 1 - i % 2).pages(), IsEmpty());
  }
}

TEST(KvPool, DroppingTheCacheKeepsLeases) {
  KvPool pool(8, 4);
  Lease held = RunSequence(pool, Count(8));
  RunSequence(pool, Count(12)).Release();
  EXPECT_EQ(pool.cached_pages(), 1);
  pool.DropCache();
  pool.Check();
  EXPECT_EQ(pool.cached_pages(), 0);
  EXPECT_EQ(pool.used_pages(), 2);
  EXPECT_EQ(pool.MatchPrefix(Count(12), 0).matched_tokens(), 0);
  held.Release();
  EXPECT_EQ(pool.free_pages(), 8);
}

TEST(KvPool, Refusals) {
  ExpectInternal([] { KvPool(0, 1); });
  ExpectInternal([] { KvPool(1, 0); });
  ExpectInternal([] { KvPool(int64_t{1} << 31, 1); });
  KvPool pool(8, 4), other(8, 4);
  Lease lease = RunSequence(pool, Count(8));
  ExpectInternal([&] { (void)pool.TryReserve(lease, -1); });
  ExpectInternal([&] { (void)other.TryReserve(lease, 1); });
  ExpectInternal([&] { other.Publish(lease, Count(4)); });
  ExpectInternal([&] { (void)pool.MatchPrefix(Count(4), 0, -1); });
  ExpectInternal([&] { (void)pool.MatchPrefix(Count(4), 0, 4, 0); });
  ExpectInternal([&] { pool.Publish(lease, Count(9)); });
  ExpectInternal([&] { pool.Publish(lease, Count(8, 1)); });
  Tokens other_start = Count(8);
  other_start[0] = 99;
  ExpectInternal([&] { pool.Publish(lease, other_start); });
  EXPECT_EQ(pool.stats().published_pages, 2);
  pool.Check();
}

// The pool against a model that keeps whole prefixes in a map and the order of use in a vector, with a KV cache whose
// slots hold the name of the prefix they were computed from.
class Simulation {
 public:
  explicit Simulation(uint32_t seed) : random_(seed) {
    page_size_ = Pick(1, 4);
    const uint64_t masks[] = {~uint64_t{0}, 0, 1, 7};
    pool_ = std::make_unique<KvPool>(Pick(1, 28), page_size_, masks[Pick(0, 3)]);
    vocabulary_ = static_cast<int32_t>(Pick(1, 3));
    slots_.assign(pool_->pages() * page_size_, -1);
    for (int32_t page = 0; page < pool_->pages(); ++page) free_.insert(page);
  }

  void Step() {
    const int64_t action = Pick(0, 99);
    if (action < 25) {
      sequences_.push_back(Begin());
    } else if (action < 28) {
      try {
        const Sequence cancelled = Begin();
        throw std::runtime_error("cancelled");
      } catch (const std::runtime_error&) {
        ModelReturn(unwound_);
      }
    } else if (action < 29) {
      pool_->DropCache();
      free_.insert(order_.begin(), order_.end());
      order_.clear();
      published_.clear();
    } else if (!sequences_.empty()) {
      const size_t index = Pick(0, static_cast<int64_t>(sequences_.size()) - 1);
      Sequence& sequence = sequences_[index];
      if (action < 45) {
        Extend(sequence, static_cast<int64_t>(sequence.tokens.size()) + Pick(0, 2 * page_size_));
      } else if (action < 65) {
        Publish(sequence);
      } else if (action < 68) {
        Lease moved = std::move(sequence.lease);
        EXPECT_THAT(sequence.lease.pages(), IsEmpty());
        sequence.lease = std::move(moved);
      } else {
        // Erasing from the middle also moves every later lease onto the one before it.
        const std::vector<int32_t> pages = Pages(sequence.lease);
        const bool reuse = Pick(0, 1) == 1;
        if (reuse) sequence.lease.Release();
        sequences_.erase(sequences_.begin() + static_cast<int64_t>(index));
        ModelReturn(pages);
      }
    }
    Compare();
  }

  void End() {
    while (!sequences_.empty()) {
      const std::vector<int32_t> pages = Pages(sequences_.back().lease);
      sequences_.pop_back();
      ModelReturn(pages);
      Compare();
    }
    EXPECT_EQ(pool_->used_pages(), 0);
  }

  const KvPool& pool() const { return *pool_; }

 private:
  struct Sequence {
    Lease lease;
    Tokens tokens;  // written
  };
  using Prefix = std::pair<uint64_t, Tokens>;  // salt, tokens

  int64_t Pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }
  Tokens RandomTokens(int64_t count) {
    Tokens tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(Pick(0, vocabulary_));
    return tokens;
  }
  static Prefix First(uint64_t salt, const Tokens& tokens, int64_t count) {
    return {salt, Tokens(tokens.begin(), tokens.begin() + count)};
  }
  int64_t Name(const Prefix& prefix) {
    return names_.try_emplace(prefix, static_cast<int64_t>(names_.size())).first->second;
  }

  Sequence Begin() {
    Tokens tokens = RandomTokens(Pick(0, 5 * page_size_));
    if (!history_.empty() && Pick(0, 3) != 0) {
      const Tokens& old = history_[Pick(0, static_cast<int64_t>(history_.size()) - 1)];
      tokens.insert(tokens.begin(), old.begin(), old.begin() + Pick(0, static_cast<int64_t>(old.size())));
    }
    tokens.resize(std::min<size_t>(tokens.size(), 40));
    history_.push_back(tokens);
    if (history_.size() > 20) history_.erase(history_.begin());

    const auto salt = static_cast<uint64_t>(Pick(0, 4) == 0);
    const int64_t most = Pick(0, 2) == 0 ? Pick(0, 20) : 1000;
    const int64_t alignment = Pick(0, 2) == 0 ? Pick(1, 6) : 1;
    Sequence sequence{pool_->MatchPrefix(tokens, salt, most, alignment), {}};
    std::vector<int32_t> expected, chain;
    for (int64_t length = page_size_; length < static_cast<int64_t>(tokens.size()) && length <= most;
         length += page_size_) {
      const auto found = published_.find(First(salt, tokens, length));
      if (found == published_.end()) break;
      chain.push_back(found->second);
      if (length % alignment == 0) expected = chain;
    }
    EXPECT_EQ(Pages(sequence.lease), expected);
    EXPECT_EQ(sequence.lease.matched_tokens(), static_cast<int64_t>(expected.size()) * page_size_);
    for (const int32_t page : expected) {
      if (references_[page]++ == 0) std::erase(order_, page);
    }
    sequence.tokens = First(salt, tokens, sequence.lease.matched_tokens()).second;
    CheckContents(sequence);
    Extend(sequence, static_cast<int64_t>(tokens.size()), tokens);
    unwound_ = Pages(sequence.lease);
    return sequence;
  }

  void Extend(Sequence& sequence, int64_t length, Tokens tokens = {}) {
    if (tokens.empty()) {
      tokens = RandomTokens(length);
      std::copy(sequence.tokens.begin(), sequence.tokens.end(), tokens.begin());
    }
    const std::vector<int32_t> before = Pages(sequence.lease);
    const int64_t more = (length + page_size_ - 1) / page_size_ - static_cast<int64_t>(before.size());
    const bool expected = more <= static_cast<int64_t>(free_.size() + order_.size());
    ASSERT_EQ(pool_->TryReserve(sequence.lease, length), expected);
    if (!expected) {
      ASSERT_EQ(Pages(sequence.lease), before);
      return;
    }
    const std::vector<int32_t> after = Pages(sequence.lease);
    ASSERT_EQ(after.size(), before.size() + static_cast<size_t>(std::max<int64_t>(more, 0)));
    ASSERT_TRUE(std::equal(before.begin(), before.end(), after.begin()));
    for (size_t i = before.size(); i < after.size(); ++i) {
      const int32_t page = after[i];
      if (!free_.empty()) {
        ASSERT_EQ(free_.erase(page), 1u) << "page " << page << " is not free";
      } else {
        ASSERT_EQ(page, order_.front()) << "not the least recently used";
        ModelEvict(page);
      }
      ASSERT_EQ(references_[page]++, 0);
    }
    for (int64_t t = static_cast<int64_t>(sequence.tokens.size()); t < length; ++t) {
      const int32_t page = after[t / page_size_];
      ASSERT_EQ(references_[page], 1) << "a shared page is written";
      for (const auto& [prefix, published] : published_) ASSERT_NE(published, page) << "a published page is written";
      slots_[page * page_size_ + t % page_size_] = Name(First(sequence.lease.salt(), tokens, t + 1));
    }
    sequence.tokens.resize(length);
    std::copy(tokens.begin(), tokens.begin() + length, sequence.tokens.begin());
  }

  void ModelEvict(int32_t page) {
    order_.erase(order_.begin());
    const auto evicted = std::find_if(published_.begin(), published_.end(), [&](auto& e) { return e.second == page; });
    ASSERT_NE(evicted, published_.end());
    const Prefix prefix = evicted->first;
    for (auto entry = published_.begin(); entry != published_.end();) {
      const auto& [salt, tokens] = entry->first;
      const bool under = salt == prefix.first && tokens.size() >= prefix.second.size() &&
                         std::equal(prefix.second.begin(), prefix.second.end(), tokens.begin());
      if (under && entry->second != page) {
        ASSERT_GT(references_[entry->second], 0) << "evicted before its descendants";
      }
      entry = under ? published_.erase(entry) : std::next(entry);
    }
  }

  void Publish(Sequence& sequence) {
    const int64_t length = Pick(0, 2) == 0 ? Pick(0, static_cast<int64_t>(sequence.tokens.size()))
                                           : static_cast<int64_t>(sequence.tokens.size());
    const uint64_t salt = sequence.lease.salt();
    pool_->Publish(sequence.lease, std::span(sequence.tokens).first(length));
    const int64_t full = length / page_size_;
    for (int64_t i = 0; i < full; ++i) {
      published_.try_emplace(First(salt, sequence.tokens, (i + 1) * page_size_), sequence.lease.pages()[i]);
    }
    for (int64_t i = full; i > 0; --i) ModelTouch(published_.at(First(salt, sequence.tokens, i * page_size_)));
  }

  void ModelTouch(int32_t page) {
    if (std::erase(order_, page) != 0) order_.push_back(page);
  }

  void ModelReturn(const std::vector<int32_t>& pages) {
    Prefix chain;  // of the deepest page so far that is published
    for (int64_t i = static_cast<int64_t>(pages.size()) - 1; i >= 0; --i) {
      const int32_t page = pages[i];
      const auto own = std::find_if(published_.begin(), published_.end(), [&](auto& e) { return e.second == page; });
      ASSERT_GT(references_[page], 0);
      if (--references_[page] == 0) {
        if (own == published_.end()) {
          free_.insert(page);
        } else {
          order_.push_back(page);
        }
      }
      if (own != published_.end() && chain.second.empty()) chain = own->first;
      if (!chain.second.empty()) {
        ModelTouch(published_.at(First(chain.first, chain.second, (i + 1) * page_size_)));
      }
    }
  }

  void CheckContents(const Sequence& sequence) {
    for (size_t t = 0; t < sequence.tokens.size(); ++t) {
      const int32_t page = sequence.lease.pages()[t / page_size_];
      ASSERT_EQ(slots_[page * page_size_ + static_cast<int64_t>(t) % page_size_],
                Name(First(sequence.lease.salt(), sequence.tokens, static_cast<int64_t>(t) + 1)))
          << "page " << page << " holds another prefix's KV at token " << t;
    }
  }

  void Compare() {
    pool_->Check();
    ASSERT_EQ(pool_->free_pages(), static_cast<int64_t>(free_.size()));
    ASSERT_EQ(pool_->cached_pages(), static_cast<int64_t>(order_.size()));
    std::map<int32_t, int64_t> held;
    for (const Sequence& sequence : sequences_) {
      for (const int32_t page : sequence.lease.pages()) ++held[page];
      CheckContents(sequence);
    }
    for (int32_t page = 0; page < pool_->pages(); ++page) ASSERT_EQ(pool_->references(page), held[page]);
    ASSERT_EQ(pool_->used_pages(), std::ranges::count_if(held, [](const auto& h) { return h.second > 0; }));
  }

  std::mt19937 random_;
  int64_t page_size_ = 0;
  int32_t vocabulary_ = 0;
  std::unique_ptr<KvPool> pool_;
  std::vector<int64_t> slots_;  // (pages, page_size), names of prefixes
  std::map<Prefix, int64_t> names_;
  std::map<Prefix, int32_t> published_;
  std::set<int32_t> free_;
  std::vector<int32_t> order_;  // cached pages, least recently used first
  std::map<int32_t, int64_t> references_;
  std::vector<Sequence> sequences_;
  std::vector<Tokens> history_;
  std::vector<int32_t> unwound_;  // pages of the sequence begun last
};

TEST(KvPool, RandomOperationsFollowTheModel) {
  int64_t hits = 0, evicted = 0, published = 0;
  for (uint32_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation(seed);
    for (int step = 0; step < 300; ++step) {
      SCOPED_TRACE(testing::Message() << "step " << step);
      simulation.Step();
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
    simulation.End();
    if (HasFatalFailure() || HasNonfatalFailure()) return;
    hits += simulation.pool().stats().hits;
    evicted += simulation.pool().stats().evicted_pages;
    published += simulation.pool().stats().published_pages;
  }
  EXPECT_GT(hits, 500);
  EXPECT_GT(evicted, 500);
  EXPECT_GT(published, 500);
  std::cout << "seeds 1..100: " << hits << " hits, " << evicted << " evicted and " << published << " published pages\n";
}

}  // namespace
}  // namespace mxmla
