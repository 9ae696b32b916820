#include "serve/metrics.h"

#include <malloc.h>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace mxmla::serve {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;
const Buckets kFirstToken = {0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60};
const Buckets kTokenTime = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1};
const Buckets kAnswer = {0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1200};

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& requests = prometheus::BuildCounter()
                                                          .Name("mxmla_http_requests_total")
                                                          .Help("Requests by path and status")
                                                          .Register(registry);
  prometheus::Histogram& first_token = prometheus::BuildHistogram()
                                           .Name("mxmla_time_to_first_token_seconds")
                                           .Help("From the request to its first token")
                                           .Register(registry)
                                           .Add({}, kFirstToken);
  prometheus::Histogram& token_time = prometheus::BuildHistogram()
                                          .Name("mxmla_time_per_output_token_seconds")
                                          .Help("Between the tokens of an answer, its mean")
                                          .Register(registry)
                                          .Add({}, kTokenTime);
  prometheus::Histogram& answer = prometheus::BuildHistogram()
                                      .Name("mxmla_request_seconds")
                                      .Help("From the request to the end of its answer")
                                      .Register(registry)
                                      .Add({}, kAnswer);
  prometheus::Counter& prompt_tokens = AddCounter("mxmla_prompt_tokens_total", "Tokens of prompts");
  prometheus::Counter& cached_tokens = AddCounter("mxmla_cached_tokens_total", "Of them, found in the KV cache");
  prometheus::Counter& new_tokens = AddCounter("mxmla_generation_tokens_total", "Tokens of answers");
  prometheus::Gauge& ready = AddGauge("mxmla_ready", "1 when the model is loaded");
  prometheus::Gauge& running = AddGauge("mxmla_requests_running", "Requests that hold cache pages");
  prometheus::Gauge& waiting = AddGauge("mxmla_requests_waiting", "Requests that wait for pages or a place");
  prometheus::Gauge& open = AddGauge("mxmla_requests_open", "Requests handed to the engine and not ended");
  prometheus::Gauge& connections = AddGauge("mxmla_connections", "Open connections");
  prometheus::Gauge& stored = AddGauge("mxmla_stored_responses", "Answers of /v1/responses that are kept");
  prometheus::Gauge& stored_bytes = AddGauge("mxmla_stored_bytes", "Their bytes");
  prometheus::Gauge& pages = AddGauge("mxmla_kv_pages", "Pages of the KV cache");
  prometheus::Gauge& used_pages = AddGauge("mxmla_kv_pages_used", "Of them, held by requests");
  prometheus::Gauge& cached_pages = AddGauge("mxmla_kv_pages_cached", "Of them, free but found by their tokens");
  prometheus::Gauge& preemptions = AddGauge("mxmla_preemptions", "Requests that lost their pages and were recomputed");
  prometheus::Gauge& steps = AddGauge("mxmla_steps", "Forward passes");
  prometheus::Gauge& step_prompt_tokens =
      AddGauge("mxmla_step_prompt_tokens", "Rows of prompts in them, recomputed ones too");
  prometheus::Gauge& step_new_tokens = AddGauge("mxmla_step_new_tokens", "Tokens that they chose");
  prometheus::Gauge& step_seconds = AddGauge("mxmla_step_seconds", "Time of all forward passes");
  prometheus::Gauge& timed_steps = AddGauge("mxmla_timed_steps", "Forward passes whose ops were timed");
  prometheus::Family<prometheus::Gauge>& op_seconds =
      AddGauges("mxmla_op_seconds", "Time of an op in the passes whose ops were timed");
  prometheus::Family<prometheus::Gauge>& op_calls = AddGauges("mxmla_op_calls", "Its calls in them");
  prometheus::Gauge& heap_bytes = AddGauge("mxmla_heap_bytes", "Bytes of the heap that are in use");

  prometheus::Counter& AddCounter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
  }
  prometheus::Family<prometheus::Gauge>& AddGauges(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
  }
  prometheus::Gauge& AddGauge(const char* name, const char* help) { return AddGauges(name, help).Add({}); }
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::CountRequest(const std::string& path, int status) {
  impl_->requests.Add({{"path", path}, {"status", std::to_string(status)}}).Increment();
}

void Metrics::ObserveFirstToken(double seconds) { impl_->first_token.Observe(seconds); }

void Metrics::ObserveTokenTime(double seconds) { impl_->token_time.Observe(seconds); }

void Metrics::ObserveAnswer(double seconds, int64_t prompt_tokens, int64_t cached_tokens, int64_t new_tokens) {
  impl_->answer.Observe(seconds);
  impl_->prompt_tokens.Increment(static_cast<double>(prompt_tokens));
  impl_->cached_tokens.Increment(static_cast<double>(cached_tokens));
  impl_->new_tokens.Increment(static_cast<double>(new_tokens));
}

std::string Metrics::Text(const Moment& moment) const {
  const EngineState& state = moment.state;
  impl_->ready.Set(state.phase == EngineState::Phase::kReady ? 1 : 0);
  impl_->running.Set(static_cast<double>(state.running));
  impl_->waiting.Set(static_cast<double>(state.waiting));
  impl_->open.Set(static_cast<double>(moment.open_requests));
  impl_->connections.Set(static_cast<double>(moment.connections));
  impl_->stored.Set(static_cast<double>(moment.stored_responses));
  impl_->stored_bytes.Set(static_cast<double>(moment.stored_bytes));
  impl_->pages.Set(static_cast<double>(state.pages));
  impl_->used_pages.Set(static_cast<double>(state.used_pages));
  impl_->cached_pages.Set(static_cast<double>(state.cached_pages));
  impl_->preemptions.Set(static_cast<double>(state.preemptions));
  impl_->steps.Set(static_cast<double>(state.steps));
  impl_->step_prompt_tokens.Set(static_cast<double>(state.prompt_tokens));
  impl_->step_new_tokens.Set(static_cast<double>(state.new_tokens));
  impl_->step_seconds.Set(state.step_seconds);
  impl_->timed_steps.Set(static_cast<double>(state.timed_steps));
  for (const EngineState::OpTime& op : state.ops) {
    impl_->op_seconds.Add({{"op", op.name}}).Set(op.seconds);
    impl_->op_calls.Add({{"op", op.name}}).Set(static_cast<double>(op.calls));
  }
  const struct mallinfo2 heap = mallinfo2();
  impl_->heap_bytes.Set(static_cast<double>(heap.uordblks + heap.hblkhd));
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace mxmla::serve
