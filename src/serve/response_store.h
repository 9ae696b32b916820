// Answers of /v1/responses that a later request may go on from, or ask for again: in memory and bounded.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace mxmla::serve {

struct StoredResponse {
  std::string owner;       // whose key asked for it: nobody else's finds it
  std::string response;    // its JSON
  std::string items;       // the conversation with the answer, a JSON list of items
  size_t input_items = 0;  // so many of them come before the answer
};

class ResponseStore {
 public:
  // At most so many answers, and so many bytes of their texts; 0 keeps none.
  ResponseStore(size_t most, size_t most_bytes) : most_(most), most_bytes_(most_bytes) {}

  bool keeps_any() const { return most_ > 0 && most_bytes_ > 0; }
  // Those that were not used for longest make room. What is larger than the whole room is not kept.
  void Put(const std::string& id, StoredResponse response);
  // Null where there is none of this owner.
  std::shared_ptr<const StoredResponse> Find(const std::string& id, const std::string& owner);
  bool Erase(const std::string& id, const std::string& owner);

  size_t count() const;
  size_t bytes() const;

 private:
  struct Entry {
    std::string id;
    std::shared_ptr<const StoredResponse> response;
    size_t bytes;
  };
  using Entries = std::list<Entry>;  // used last at the front
  void Drop(Entries::iterator entry);

  const size_t most_, most_bytes_;
  mutable std::mutex mutex_;
  Entries entries_;
  std::map<std::string, Entries::iterator> by_id_;
  size_t bytes_ = 0;
};

}  // namespace mxmla::serve
