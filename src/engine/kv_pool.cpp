#include "engine/kv_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "core/error.h"

namespace mxmla {
namespace {

int64_t CheckedSize(const char* what, int64_t value) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (value < 1 || value > kMost) {
    Fail(ErrorCode::kInternal, what, fmt::format("1..{}", kMost), fmt::format("{}", value));
  }
  return value;
}

void Require(bool holds, const char* invariant, int64_t page) {
  if (!holds) Fail(ErrorCode::kInternal, "KV pool", invariant, fmt::format("page {} breaking that", page));
}

void RequireEqual(int64_t value, int64_t expected, const char* what) {
  if (value == expected) return;
  Fail(ErrorCode::kInternal, fmt::format("KV pool, {}", what), fmt::format("{}", expected), fmt::format("{}", value));
}

}  // namespace

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  Release();
  pool_ = std::exchange(other.pool_, nullptr);
  salt_ = other.salt_;
  matched_tokens_ = std::exchange(other.matched_tokens_, 0);
  pages_ = std::exchange(other.pages_, {});
  return *this;
}

void Lease::Release() noexcept {
  if (pool_ != nullptr) pool_->Return(pages_);
  pool_ = nullptr;
  matched_tokens_ = 0;
  pages_.clear();
}

KvPool::KvPool(int64_t pages, int64_t page_size, uint64_t hash_mask)
    : page_size_(CheckedSize("tokens a KV page", page_size)),
      hash_mask_(hash_mask),
      nodes_(CheckedSize("KV pages", pages)),
      tokens_(pages * page_size),
      free_(pages),
      buckets_(std::bit_ceil(static_cast<uint64_t>(pages)), kNone) {
  std::iota(free_.rbegin(), free_.rend(), 0);
}

bool KvPool::TryReserve(Lease& lease, int64_t tokens) {
  if (tokens < 0) Fail(ErrorCode::kInternal, "KV reservation", "0 or more tokens", fmt::format("{}", tokens));
  if (lease.pool_ != nullptr && lease.pool_ != this) {
    Fail(ErrorCode::kInternal, "KV reservation", "a lease of this pool", "another pool's");
  }
  const int64_t held = static_cast<int64_t>(lease.pages_.size());
  const int64_t wanted = tokens / page_size_ + (tokens % page_size_ != 0 ? 1 : 0);
  if (wanted <= held) return true;
  if (wanted - held > available_pages()) return false;
  // All allocation comes before the first change.
  if (wanted > static_cast<int64_t>(lease.pages_.capacity())) lease.pages_.reserve(std::max(wanted, 2 * held));
  lease.pool_ = this;
  for (int64_t i = held; i < wanted; ++i) {
    const int32_t page = TakePage();
    AddReference(page);
    lease.pages_.push_back(page);
  }
  return true;
}

Lease KvPool::MatchPrefix(std::span<const int32_t> tokens, uint64_t salt, int64_t max_tokens, int64_t alignment) {
  if (max_tokens < 0 || alignment < 1) {
    Fail(ErrorCode::kInternal, "KV prefix", "a maximum of 0 or more tokens and an alignment of 1 or more",
         fmt::format("{} and {}", max_tokens, alignment));
  }
  Lease lease(salt);
  const int64_t longest = std::min(max_tokens, static_cast<int64_t>(tokens.size()) - 1) / page_size_;
  Position at = Start(salt);
  for (int64_t i = 0; i < longest; ++i) {
    const std::span<const int32_t> own = tokens.subspan(i * page_size_, page_size_);
    at.hash = Hash(at.hash, own);
    at.page = Find(at.hash, at.page, salt, own);
    if (at.page == kNone) break;
    lease.pages_.push_back(at.page);
  }
  const int64_t found = static_cast<int64_t>(lease.pages_.size());
  lease.pages_.resize(found - found % (alignment / std::gcd(alignment, page_size_)));
  if (!lease.pages_.empty()) lease.pool_ = this;
  for (const int32_t page : lease.pages_) AddReference(page);
  lease.matched_tokens_ = static_cast<int64_t>(lease.pages_.size()) * page_size_;

  ++stats_.lookups;
  if (!lease.pages_.empty()) ++stats_.hits;
  stats_.lookup_tokens += static_cast<int64_t>(tokens.size());
  stats_.matched_tokens += lease.matched_tokens_;
  return lease;
}

void KvPool::Publish(Lease& lease, std::span<const int32_t> tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  if (lease.pool_ != nullptr && lease.pool_ != this) {
    Fail(ErrorCode::kInternal, "KV publication", "a lease of this pool", "another pool's");
  }
  if (count > static_cast<int64_t>(lease.pages_.size()) * page_size_) {
    Fail(ErrorCode::kInternal, "KV publication", fmt::format("tokens of the lease's {} pages", lease.pages_.size()),
         fmt::format("{} tokens", count));
  }
  const int64_t full = count / page_size_;
  const auto own_tokens = [&](int64_t i) { return tokens.subspan(i * page_size_, page_size_); };

  // First along what is published already, by this lease or another, ...
  Position at = Start(lease.salt_);
  int64_t known = full;
  for (int64_t i = 0; i < full; ++i) {
    const int32_t own = lease.pages_[i];
    int32_t page = kNone;
    if (known == full) {
      const uint64_t hash = Hash(at.hash, own_tokens(i));
      page = Find(hash, at.page, lease.salt_, own_tokens(i));
      if (page == kNone) {
        known = i;
      } else {
        at = {page, hash};
      }
    }
    if (nodes_[own].published && page != own) {
      Fail(ErrorCode::kInternal, "KV publication", "the tokens published before", fmt::format("others in page {}", i));
    }
  }
  // ... then on with own pages, of which none is published.
  for (int64_t i = known; i < full; ++i) {
    Insert(lease.pages_[i], at, lease.salt_, own_tokens(i));
    at = {lease.pages_[i], nodes_[lease.pages_[i]].hash};
  }
  for (int32_t page = at.page; page != kNone; page = nodes_[page].parent) Touch(page);
}

void KvPool::DropCache() noexcept {
  while (first_root_ != kNone) Unpublish(first_root_);
}

KvPool::Position KvPool::Start(uint64_t salt) const { return {kNone, (salt ^ 0x6a09e667f3bcc908u) & hash_mask_}; }

uint64_t KvPool::Hash(uint64_t before, std::span<const int32_t> tokens) const {
  uint64_t hash = before;
  for (const int32_t token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
  }
  return hash & hash_mask_;
}

std::span<const int32_t> KvPool::TokensOf(int32_t page) const {
  return std::span(tokens_).subspan(page * page_size_, page_size_);
}

bool KvPool::Holds(int32_t page, int32_t parent, uint64_t salt, std::span<const int32_t> tokens) const {
  const Node& node = nodes_[page];
  return node.parent == parent && node.salt == salt && std::ranges::equal(TokensOf(page), tokens);
}

int32_t KvPool::Find(uint64_t hash, int32_t parent, uint64_t salt, std::span<const int32_t> tokens) const {
  int32_t page = buckets_[hash & (buckets_.size() - 1)];
  while (page != kNone && !(nodes_[page].hash == hash && Holds(page, parent, salt, tokens))) {
    page = nodes_[page].next_in_bucket;
  }
  return page;
}

void KvPool::Insert(int32_t page, const Position& parent, uint64_t salt, std::span<const int32_t> tokens) {
  Node& node = nodes_[page];
  std::ranges::copy(tokens, tokens_.begin() + page * page_size_);
  node.published = true;
  node.hash = Hash(parent.hash, tokens);
  node.salt = salt;
  node.parent = parent.page;
  node.first_child = kNone;
  node.previous_sibling = kNone;
  node.next_sibling = std::exchange(FirstChild(parent.page), page);
  if (node.next_sibling != kNone) nodes_[node.next_sibling].previous_sibling = page;
  node.next_in_bucket = std::exchange(Bucket(node.hash), page);
  ++stats_.published_pages;
}

void KvPool::Unpublish(int32_t page) noexcept {
  const int32_t top = page;
  while (true) {
    while (nodes_[page].first_child != kNone) page = nodes_[page].first_child;
    const int32_t parent = nodes_[page].parent;
    Unlink(page);
    if (nodes_[page].references == 0) {
      RemoveFromOrder(page);
      free_.push_back(page);
    }
    if (page == top) return;
    page = parent;
  }
}

void KvPool::Unlink(int32_t page) noexcept {
  Node& node = nodes_[page];
  int32_t* link = &Bucket(node.hash);
  while (*link != page) link = &nodes_[*link].next_in_bucket;
  *link = node.next_in_bucket;
  (node.previous_sibling == kNone ? FirstChild(node.parent) : nodes_[node.previous_sibling].next_sibling) =
      node.next_sibling;
  if (node.next_sibling != kNone) nodes_[node.next_sibling].previous_sibling = node.previous_sibling;
  node.published = false;
}

void KvPool::AppendNewest(int32_t page) noexcept {
  nodes_[page].newer = kNone;
  nodes_[page].older = std::exchange(newest_, page);
  (nodes_[page].older == kNone ? oldest_ : nodes_[nodes_[page].older].newer) = page;
  ++cached_;
}

void KvPool::RemoveFromOrder(int32_t page) noexcept {
  const Node& node = nodes_[page];
  (node.older == kNone ? oldest_ : nodes_[node.older].newer) = node.newer;
  (node.newer == kNone ? newest_ : nodes_[node.newer].older) = node.older;
  --cached_;
}

void KvPool::Touch(int32_t page) noexcept {
  if (nodes_[page].references != 0) return;
  RemoveFromOrder(page);
  AppendNewest(page);
}

void KvPool::AddReference(int32_t page) noexcept {
  Node& node = nodes_[page];
  ++references_;
  if (node.references++ != 0) return;
  ++used_;
  if (node.published) RemoveFromOrder(page);
}

void KvPool::Return(std::span<const int32_t> pages) noexcept {
  // From the last page to the first, so that each becomes older than its ancestors. An ancestor need not be the lease's
  // own: where another page held the same tokens already, the chain goes through that one.
  int32_t ancestor = kNone;
  for (size_t i = pages.size(); i-- > 0;) {
    const int32_t page = pages[i];
    Node& node = nodes_[page];
    --references_;
    if (--node.references == 0) {
      --used_;
      if (node.published) {
        AppendNewest(page);
      } else {
        free_.push_back(page);
      }
    }
    if (node.published) {
      ancestor = page;
    } else if (ancestor != kNone) {
      Touch(ancestor);
    }
    if (ancestor != kNone) ancestor = nodes_[ancestor].parent;
  }
}

int32_t KvPool::TakePage() noexcept {
  if (free_.empty()) {
    ++stats_.evicted_pages;
    Unpublish(oldest_);
  }
  const int32_t page = free_.back();
  free_.pop_back();
  return page;
}

void KvPool::Check() const {
  enum class Place : uint8_t { kUnknown, kFree, kCached };
  std::vector<Place> places(nodes_.size(), Place::kUnknown);
  for (const int32_t page : free_) {
    Require(page >= 0 && page < pages(), "free pages in range", page);
    Require(places[page] == Place::kUnknown, "no page free twice", page);
    Require(nodes_[page].references == 0, "no free page in a lease", page);
    Require(!nodes_[page].published, "no free page published", page);
    places[page] = Place::kFree;
  }

  std::vector<int64_t> rank(nodes_.size(), 0);
  int64_t cached = 0;
  for (int32_t page = oldest_, older = kNone; page != kNone; older = page, page = nodes_[page].newer) {
    Require(places[page] == Place::kUnknown, "cached pages not free and listed once", page);
    Require(nodes_[page].references == 0, "no cached page in a lease", page);
    Require(nodes_[page].published, "cached pages published", page);
    Require(nodes_[page].older == older, "the order of use linked both ways", page);
    Require(nodes_[page].newer != kNone || newest_ == page, "the newest page at the end of the order", page);
    places[page] = Place::kCached;
    rank[page] = ++cached;
  }
  RequireEqual(cached_, cached, "cached pages");

  int64_t used = 0, references = 0, published = 0;
  for (int32_t page = 0; page < pages(); ++page) {
    const Node& node = nodes_[page];
    Require(node.references >= 0, "no negative number of references", page);
    Require(places[page] != Place::kUnknown || node.references > 0, "every page free, cached or in a lease", page);
    if (node.references > 0) ++used;
    references += node.references;
    if (!node.published) continue;
    ++published;
    Position before = Start(node.salt);
    if (node.parent != kNone) {
      Require(nodes_[node.parent].published, "parents of published pages published", page);
      Require(nodes_[node.parent].salt == node.salt, "one salt a chain", page);
      before = {node.parent, nodes_[node.parent].hash};
    }
    Require(node.hash == Hash(before.hash, TokensOf(page)), "hashes of the prefix", page);
    Require(Find(node.hash, node.parent, node.salt, TokensOf(page)) == page, "content published once and found", page);
    int32_t ancestor = node.parent;
    while (ancestor != kNone && places[ancestor] != Place::kCached) ancestor = nodes_[ancestor].parent;
    Require(places[page] != Place::kCached || ancestor == kNone || rank[page] < rank[ancestor],
            "cached pages older than their ancestors", page);
  }
  RequireEqual(used_, used, "used pages");
  RequireEqual(references_, references, "references");
  RequireEqual(used_ + cached_ + free_pages(), pages(), "used, cached and free pages");

  int64_t in_buckets = 0, children = 0;
  for (int32_t page : buckets_) {
    for (; page != kNone; page = nodes_[page].next_in_bucket) ++in_buckets;
  }
  RequireEqual(in_buckets, published, "pages in hash buckets");
  for (int32_t parent = kNone; parent < pages(); ++parent) {
    if (parent != kNone && !nodes_[parent].published) continue;
    int32_t previous = kNone;
    for (int32_t page = parent == kNone ? first_root_ : nodes_[parent].first_child; page != kNone;
         previous = page, page = nodes_[page].next_sibling) {
      Require(nodes_[page].published && nodes_[page].parent == parent, "children know their parent", page);
      Require(nodes_[page].previous_sibling == previous, "siblings linked both ways", page);
      ++children;
    }
  }
  RequireEqual(children, published, "children and first pages");
}

}  // namespace mxmla
