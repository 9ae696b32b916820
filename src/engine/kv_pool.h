// Bookkeeping of a paged KV cache: which sequence holds which pages, and which pages can be found by their tokens.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace mxmla {

class KvPool;

// The pages of one sequence, in order: token t lives in slot t % page_size of pages()[t / page_size]. Destroying or
// overwriting a lease returns all of them. A lease must not outlive the pool it was filled from.
class Lease {
 public:
  Lease() = default;
  // Empty. Only sequences of the same salt share pages (one salt a model, an adapter, a user: whatever changes KV).
  explicit Lease(uint64_t salt) : salt_(salt) {}
  Lease(Lease&& other) noexcept { *this = std::move(other); }
  Lease& operator=(Lease&& other) noexcept;
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() { Release(); }

  // Valid until the lease grows or is released.
  std::span<const int32_t> pages() const { return pages_; }
  // Tokens whose KV KvPool::MatchPrefix found; the first to compute is at this position.
  int64_t matched_tokens() const { return matched_tokens_; }
  uint64_t salt() const { return salt_; }
  // Returns every page now; the salt stays.
  void Release() noexcept;

 private:
  friend class KvPool;

  KvPool* pool_ = nullptr;  // null until the first page
  uint64_t salt_ = 0;
  int64_t matched_tokens_ = 0;
  std::vector<int32_t> pages_;
};

struct KvPoolStats {
  int64_t lookups = 0;         // calls of MatchPrefix
  int64_t hits = 0;            // those that found at least one page
  int64_t lookup_tokens = 0;   // tokens that MatchPrefix was given
  int64_t matched_tokens = 0;  // tokens that it found
  int64_t published_pages = 0;
  int64_t evicted_pages = 0;  // cached pages that TryReserve took
};

// Pages 0 .. pages-1 of page_size tokens each. A page is free, used (held by at least one lease) or cached (held by
// none, but its tokens are published). The pool touches no memory but its own and is for one thread at a time. Every
// operation but Check takes time in proportion to the pages and tokens it is about, whatever the pool's size.
class KvPool {
 public:
  // Refused (kInternal): pages or page_size outside 1 .. 2^31-1. Content hashes are ANDed with `hash_mask`: tests make
  // hashes collide with it.
  KvPool(int64_t pages, int64_t page_size, uint64_t hash_mask = std::numeric_limits<uint64_t>::max());
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  // Grows the lease until it holds `tokens` tokens (it never shrinks), or changes nothing and returns false. Free pages
  // go first, then cached ones, least recently used first. Refused (kInternal): tokens < 0, another pool's lease.
  [[nodiscard]] bool TryReserve(Lease& lease, int64_t tokens);

  // A lease that shares the longest published chain of full pages that begins `tokens`, cut to a multiple of page_size
  // and of `alignment` tokens, to `max_tokens`, and to less than tokens.size(): the last token is always left to
  // compute. Empty when nothing is found. The pages are read-only: write from position matched_tokens() on. Refused
  // (kInternal): max_tokens < 0, alignment < 1.
  [[nodiscard]] Lease MatchPrefix(std::span<const int32_t> tokens, uint64_t salt,
                                  int64_t max_tokens = std::numeric_limits<int64_t>::max(), int64_t alignment = 1);

  // Lets MatchPrefix find the full pages of `tokens`, the sequence's tokens from its first on, all of whose KV is
  // written; those pages are read-only from now on. Where another page with the same content is published already, the
  // lease's own stays private. To be called again as the sequence grows; what is published stays so. Refused
  // (kInternal), changing nothing: more tokens than the lease has room for, tokens other than those published before.
  void Publish(Lease& lease, std::span<const int32_t> tokens);

  // Forgets all that is published: cached pages become free, used ones private.
  void DropCache() noexcept;

  int64_t pages() const { return static_cast<int64_t>(nodes_.size()); }
  int64_t page_size() const { return page_size_; }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  int64_t cached_pages() const { return cached_; }
  int64_t used_pages() const { return used_; }
  // What a TryReserve can still be given, in pages.
  int64_t available_pages() const { return free_pages() + cached_; }
  // The number of leases that hold the page.
  int64_t references(int32_t page) const { return nodes_.at(page).references; }
  const KvPoolStats& stats() const { return stats_; }

  // Throws an Error (kInternal) that names the first broken invariant. Looks at every page: for tests.
  void Check() const;

 private:
  friend class Lease;
  static constexpr int32_t kNone = -1;

  // Published pages form a forest: the parent holds the tokens just before. A published page's number names its whole
  // prefix, because unpublishing a page unpublishes its descendants.
  struct Node {
    int64_t references = 0;
    bool published = false;
    // The rest has a meaning for published pages only.
    uint64_t hash = 0;  // of salt, the tokens before and the page's own
    uint64_t salt = 0;
    int32_t parent = kNone;
    int32_t first_child = kNone, previous_sibling = kNone, next_sibling = kNone;
    int32_t next_in_bucket = kNone;
    int32_t older = kNone, newer = kNone;  // neighbours in the order of use, for cached pages
  };
  // A published page or, with page kNone, the start of a sequence.
  struct Position {
    int32_t page;
    uint64_t hash;
  };

  Position Start(uint64_t salt) const;
  uint64_t Hash(uint64_t before, std::span<const int32_t> tokens) const;
  std::span<const int32_t> TokensOf(int32_t page) const;
  bool Holds(int32_t page, int32_t parent, uint64_t salt, std::span<const int32_t> tokens) const;
  int32_t Find(uint64_t hash, int32_t parent, uint64_t salt, std::span<const int32_t> tokens) const;
  int32_t& Bucket(uint64_t hash) { return buckets_[hash & (buckets_.size() - 1)]; }
  int32_t& FirstChild(int32_t parent) { return parent == kNone ? first_root_ : nodes_[parent].first_child; }

  void Insert(int32_t page, const Position& parent, uint64_t salt, std::span<const int32_t> tokens);
  void Unpublish(int32_t page) noexcept;  // and its descendants; cached ones become free
  void Unlink(int32_t page) noexcept;     // from the bucket and the siblings
  void AppendNewest(int32_t page) noexcept;
  void RemoveFromOrder(int32_t page) noexcept;
  void Touch(int32_t page) noexcept;  // makes a cached page the newest
  void AddReference(int32_t page) noexcept;
  void Return(std::span<const int32_t> pages) noexcept;
  int32_t TakePage() noexcept;

  int64_t page_size_;
  uint64_t hash_mask_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;   // (pages, page_size), of published pages
  std::vector<int32_t> free_;     // the last is taken next; never reallocates
  std::vector<int32_t> buckets_;  // first published page of each hash bucket
  int32_t first_root_ = kNone;
  // Cached pages in order of use. A page is always older than its cached ancestors, so that the oldest has no cached
  // descendants and the cache shrinks from the ends of its chains.
  int32_t oldest_ = kNone, newest_ = kNone;
  int64_t cached_ = 0, used_ = 0;
  int64_t references_ = 0;  // of all leases
  KvPoolStats stats_;
};

}  // namespace mxmla
