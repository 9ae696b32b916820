// What the server counts, as Prometheus reads it.
#pragma once

#include <memory>
#include <string>

#include "serve/engine.h"

namespace mxmla::serve {

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void CountRequest(const std::string& path, int status);
  // Of one answer: seconds from the request to its first token, and between its later ones on average.
  void ObserveFirstToken(double seconds);
  void ObserveTokenTime(double seconds);
  void ObserveAnswer(double seconds, int64_t prompt_tokens, int64_t cached_tokens, int64_t new_tokens);

  struct Moment {
    EngineState state;
    int64_t open_requests, connections;
    size_t stored_responses, stored_bytes;
  };
  // The text format of Prometheus, with the numbers of this moment.
  std::string Text(const Moment& moment) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mxmla::serve
