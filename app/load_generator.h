// Clients of an OpenAI-compatible server, as many as one thread can serve: what bench serve measures with.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mxmla::app {

struct LoadTarget {
  std::string host = "127.0.0.1";
  std::string port = "8000";
  std::string path = "/v1/completions";
  std::string api_key;
  double timeout_seconds = 600;  // without a byte of an answer
};

// One of the two.
struct LoadPattern {
  int64_t concurrency = 0;  // closed loop: so many clients, each asking again once it is answered
  double rate = 0;          // open loop: requests a second on average, which arrive as a Poisson process
  uint64_t seed = 0;        // of the arrivals
};

// A request that was answered with a stream of events. Times are seconds since it was sent (open loop: since it was
// due).
struct LoadAnswer {
  std::string error;                // empty: it was answered to the end
  int status = 0;                   // of HTTP; 0: none came
  double sent = 0;                  // since the load's begin
  std::vector<double> event_times;  // of the events with text
  double end = 0;
  std::string text;
  int64_t prompt_tokens = 0, cached_tokens = 0, tokens = 0;  // as the server counts them
};

// Sends request i's body as bodies[i % bodies.size()], `requests` in all, and returns their answers in order. The
// bodies ask for a stream with usage.
std::vector<LoadAnswer> RunLoad(const LoadTarget& target, std::span<const std::string> bodies, int64_t requests,
                                const LoadPattern& pattern);

}  // namespace mxmla::app
