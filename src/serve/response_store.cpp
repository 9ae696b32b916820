#include "serve/response_store.h"

#include <utility>

namespace mxmla::serve {

void ResponseStore::Drop(Entries::iterator entry) {
  bytes_ -= entry->bytes;
  by_id_.erase(entry->id);
  entries_.erase(entry);
}

void ResponseStore::Put(const std::string& id, StoredResponse response) {
  const size_t bytes = id.size() + response.owner.size() + response.response.size() + response.items.size();
  if (!keeps_any() || bytes > most_bytes_) return;
  const std::lock_guard lock(mutex_);
  if (const auto known = by_id_.find(id); known != by_id_.end()) Drop(known->second);
  while (entries_.size() >= most_ || bytes_ + bytes > most_bytes_) Drop(std::prev(entries_.end()));
  entries_.push_front({id, std::make_shared<const StoredResponse>(std::move(response)), bytes});
  by_id_[id] = entries_.begin();
  bytes_ += bytes;
}

std::shared_ptr<const StoredResponse> ResponseStore::Find(const std::string& id, const std::string& owner) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end() || found->second->response->owner != owner) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->response;
}

bool ResponseStore::Erase(const std::string& id, const std::string& owner) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end() || found->second->response->owner != owner) return false;
  Drop(found->second);
  return true;
}

size_t ResponseStore::count() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

size_t ResponseStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace mxmla::serve
