// mxmla bench serve: a server under load, this one or another that OpenAI's clients know.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "bench_model.h"
#include "length_distribution.h"
#include "line_chart.h"
#include "load_generator.h"
#include "output_file.h"

namespace mxmla::app {
namespace {

using Json = nlohmann::ordered_json;

struct ServeBenchFlags {
  LoadTarget target;
  std::string url = "http://127.0.0.1:8000", api_key_file, model, json, svg, prompt_file;
  std::vector<int64_t> concurrency;
  std::vector<double> rates;
  int64_t requests = 0, distinct = 0, shared_prefix = 0;
  std::string input_tokens = "128", output_tokens = "64", token_ids = "100-1000";
  double temperature = 0;
  uint64_t seed = 0;
  double most_ttft = 0.2, most_tbt = 0.05;  // seconds
  bool check = false, stops = false;
};

// http://HOST:PORT, of which the port may be left out.
void ReadUrl(const std::string& url, LoadTarget* target) {
  constexpr std::string_view kScheme = "http://";
  std::string rest = url.starts_with(kScheme) ? url.substr(kScheme.size()) : std::string();
  while (rest.ends_with('/')) rest.pop_back();
  if (rest.empty() || rest.find('/') != std::string::npos) {
    Fail(ErrorCode::kUsage, "--url", "http://HOST:PORT", url, "TLS is not part of the measurement");
  }
  const size_t bracket = rest.find(']');
  const size_t colon = rest.find(':', bracket == std::string::npos ? 0 : bracket);
  target->host = rest.substr(0, colon);
  target->port = colon == std::string::npos ? "80" : rest.substr(colon + 1);
  if (bracket != std::string::npos) target->host = rest.substr(1, bracket - 1);
}

std::vector<std::string> ReadLines(const std::string& path) {
  const std::string text = ReadText(path, "--prompt-file");
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  if (lines.empty()) Fail(ErrorCode::kData, "--prompt-file " + path, "a prompt a line", "none");
  return lines;
}

std::vector<std::string> MakeBodies(const ServeBenchFlags& flags, int64_t count) {
  std::mt19937_64 random(flags.seed);
  const LengthDistribution inputs(flags.input_tokens, "--input-tokens");
  const LengthDistribution outputs(flags.output_tokens, "--output-tokens");
  const LengthDistribution ids(flags.token_ids, "--token-ids");
  const std::vector<std::string> lines =
      flags.prompt_file.empty() ? std::vector<std::string>() : ReadLines(flags.prompt_file);
  std::vector<int64_t> prefix(static_cast<size_t>(flags.shared_prefix));
  for (int64_t& id : prefix) id = ids.Draw(random);
  std::vector<std::string> bodies;
  for (int64_t i = 0; i < count; ++i) {
    Json body = {{"stream", true}, {"stream_options", {{"include_usage", true}}}};
    if (!flags.model.empty()) body["model"] = flags.model;
    if (lines.empty()) {
      std::vector<int64_t> prompt = prefix;
      for (int64_t left = inputs.Draw(random); left > 0; --left) prompt.push_back(ids.Draw(random));
      body["prompt"] = prompt;
    } else {
      body["prompt"] = lines[static_cast<size_t>(i) % lines.size()];
    }
    body["max_tokens"] = outputs.Draw(random);
    body["temperature"] = flags.temperature;
    body["seed"] = flags.seed + static_cast<uint64_t>(i);
    body["ignore_eos"] = !flags.stops;
    bodies.push_back(body.dump());
  }
  return bodies;
}

double Mean(const std::vector<double>& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// The smallest value that so large a part does not exceed.
double Percentile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  const auto rank = static_cast<size_t>(std::ceil(part * static_cast<double>(values.size())));
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

Json Spread(const std::vector<double>& values) {
  return {{"mean", Mean(values)},
          {"p50", Percentile(values, 0.5)},
          {"p90", Percentile(values, 0.9)},
          {"p99", Percentile(values, 0.99)},
          {"max", Percentile(values, 1)}};
}

Json Summarize(const ServeBenchFlags& flags, const LoadPattern& pattern, const std::vector<LoadAnswer>& answers) {
  std::vector<double> ttft, tbt, whole;
  int64_t failed = 0, good = 0, prompt_tokens = 0, cached_tokens = 0, tokens = 0;
  double seconds = 0;
  std::string error;
  for (const LoadAnswer& answer : answers) {
    seconds = std::max(seconds, answer.sent + answer.end);
    if (!answer.error.empty()) {
      if (failed++ == 0) error = answer.error;
      continue;
    }
    prompt_tokens += answer.prompt_tokens;
    cached_tokens += answer.cached_tokens;
    tokens += answer.tokens;
    whole.push_back(answer.end);
    if (answer.event_times.empty()) continue;
    const double first = answer.event_times.front(), last = answer.event_times.back();
    const double each = answer.tokens > 1 ? (last - first) / static_cast<double>(answer.tokens - 1) : 0;
    ttft.push_back(first);
    for (size_t i = 1; i < answer.event_times.size(); ++i) {
      tbt.push_back(answer.event_times[i] - answer.event_times[i - 1]);
    }
    good += first <= flags.most_ttft && each <= flags.most_tbt ? 1 : 0;
  }
  const auto rate = [&](int64_t count) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; };
  Json json = {{"concurrency", pattern.concurrency},
               {"rate", pattern.rate},
               {"requests", answers.size()},
               {"failed", failed},
               {"seconds", seconds},
               {"requests_per_second", rate(static_cast<int64_t>(whole.size()))},
               {"goodput_per_second", rate(good)},
               {"output_tokens_per_second", rate(tokens)},
               {"input_tokens_per_second", rate(prompt_tokens)},
               {"cached_tokens", cached_tokens},
               {"time_to_first_token", Spread(ttft)},
               {"time_between_tokens", Spread(tbt)},
               {"time_of_request", Spread(whole)}};
  if (failed > 0) json["first_error"] = error;
  return json;
}

void Print(const Json& run) {
  const auto ms = [&](const char* what, const char* part) { return run[what][part].get<double>() * 1e3; };
  const auto number = [&](const char* what) { return run[what].get<double>(); };
  const std::string load =
      run["rate"] > 0 ? fmt::format("{:.4g}/s", number("rate")) : fmt::format("{}", run["concurrency"].get<int64_t>());
  fmt::print("{:>9} {:>9} {:>7} {:>9.2f} {:>9.2f} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.2f} {:>9.2f}\n", load,
             run["requests"].get<int64_t>(), run["failed"].get<int64_t>(), number("requests_per_second"),
             number("goodput_per_second"), number("output_tokens_per_second"), ms("time_to_first_token", "p50"),
             ms("time_to_first_token", "p90"), ms("time_to_first_token", "p99"), ms("time_between_tokens", "p50"),
             ms("time_between_tokens", "p99"));
  if (run.contains("first_error")) fmt::print("          failed first: {}\n", run["first_error"].get<std::string>());
  std::fflush(stdout);
}

// Each different request once more, alone; how many of the answers differ from that.
int64_t CountDifferent(const ServeBenchFlags& flags, const std::vector<std::string>& bodies,
                       const std::vector<std::vector<LoadAnswer>>& loads) {
  const std::vector<LoadAnswer> alone =
      RunLoad(flags.target, bodies, static_cast<int64_t>(bodies.size()), {.concurrency = 1});
  int64_t different = 0, compared = 0;
  for (const std::vector<LoadAnswer>& answers : loads) {
    for (size_t i = 0; i < answers.size(); ++i) {
      const LoadAnswer& expected = alone[i % alone.size()];
      if (!answers[i].error.empty() || !expected.error.empty()) continue;
      ++compared;
      different += answers[i].text == expected.text && answers[i].tokens == expected.tokens ? 0 : 1;
    }
  }
  fmt::print("check     {} of {} answers are those of the same request alone\n", compared - different, compared);
  return different;
}

void Draw(const std::string& path, const Json& runs) {
  std::vector<std::string> x;
  std::vector<double> tokens, requests, good, ttft50, ttft99, tbt50, tbt99;
  const bool open = runs.front()["rate"] > 0;
  for (const Json& run : runs) {
    x.push_back(open ? fmt::format("{:.4g}", run["rate"].get<double>()) : run["concurrency"].dump());
    tokens.push_back(run["output_tokens_per_second"]);
    requests.push_back(run["requests_per_second"]);
    good.push_back(run["goodput_per_second"]);
    ttft50.push_back(run["time_to_first_token"]["p50"].get<double>() * 1e3);
    ttft99.push_back(run["time_to_first_token"]["p99"].get<double>() * 1e3);
    tbt50.push_back(run["time_between_tokens"]["p50"].get<double>() * 1e3);
    tbt99.push_back(run["time_between_tokens"]["p99"].get<double>() * 1e3);
  }
  OutputFile file(path);
  file.Write(DrawCharts(open ? "requests a second that arrive" : "clients", x,
                        {{"new tokens a second", {{"tokens", tokens}}},
                         {"requests a second", {{"answered", requests}, {"in time", good}}},
                         {"time to first token, ms", {{"median", ttft50}, {"99%", ttft99}}},
                         {"time between tokens, ms", {{"median", tbt50}, {"99%", tbt99}}}}));
  file.Commit();
}

void BenchServe(ServeBenchFlags flags) {
  ReadUrl(flags.url, &flags.target);
  if (!flags.api_key_file.empty()) {
    flags.target.api_key = ReadText(flags.api_key_file, "--api-key-file");
    flags.target.api_key.resize(flags.target.api_key.find_last_not_of(" \r\n") + 1);
  }
  std::vector<LoadPattern> patterns;
  for (const int64_t count : flags.concurrency) patterns.push_back({.concurrency = count});
  for (const double rate : flags.rates) patterns.push_back({.rate = rate, .seed = flags.seed});
  if (patterns.empty()) patterns.push_back({.concurrency = 1});
  fmt::print("{:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>29} {:>19}\n", flags.rates.empty() ? "clients" : "arrivals",
             "requests", "failed", "req/s", "good/s", "tokens/s", "first token p50/p90/p99 ms", "between p50/p99 ms");
  Json runs = Json::array();
  std::vector<std::vector<LoadAnswer>> loads;
  int64_t failed = 0;
  const int64_t most = std::max_element(patterns.begin(), patterns.end(), [](const auto& a, const auto& b) {
                         return a.concurrency < b.concurrency;
                       })->concurrency;
  const int64_t distinct = flags.distinct > 0   ? flags.distinct
                           : flags.requests > 0 ? flags.requests
                                                : 4 * std::max<int64_t>(most, 16);
  const std::vector<std::string> bodies = MakeBodies(flags, distinct);
  for (const LoadPattern& pattern : patterns) {
    const int64_t requests =
        flags.requests > 0 ? flags.requests : 4 * (pattern.concurrency > 0 ? pattern.concurrency : 16);
    loads.push_back(RunLoad(flags.target, bodies, requests, pattern));
    runs.push_back(Summarize(flags, pattern, loads.back()));
    failed += runs.back()["failed"].get<int64_t>();
    Print(runs.back());
    if (!flags.check) loads.clear();
  }
  Json json = {{"url", flags.url},
               {"input_tokens", flags.input_tokens},
               {"output_tokens", flags.output_tokens},
               {"most_time_to_first_token", flags.most_ttft},
               {"most_time_between_tokens", flags.most_tbt},
               {"runs", runs}};
  if (flags.check) {
    const int64_t different = CountDifferent(flags, bodies, loads);
    json["different"] = different;
    failed += different;
  }
  if (!flags.json.empty()) {
    OutputFile file(flags.json);
    file.Write(json.dump(2) + "\n");
    file.Commit();
  }
  if (!flags.svg.empty()) Draw(flags.svg, runs);
  if (failed > 0) throw ExitStatus{1};
}

}  // namespace

void AddBenchServe(CLI::App& bench) {
  auto flags = std::make_shared<ServeBenchFlags>();
  CLI::App* command = bench.add_subcommand("serve", "Load a running server with requests and time its answers");
  command->add_option("--url", flags->url, "the server, http://HOST:PORT")->capture_default_str();
  command->add_option("--model", flags->model, "the model's name, where the server wants one");
  command->add_option("--api-key-file", flags->api_key_file, "a file with the key to send");
  CLI::Option* clients =
      command
          ->add_option("--concurrency", flags->concurrency,
                       "closed loop: so many clients, each of which asks again once it is answered; several values")
          ->check(CLI::Range(1, 1 << 20))
          ->delimiter(',');
  command
      ->add_option("--rate", flags->rates,
                   "open loop: requests a second that arrive at random (Poisson); several values")
      ->check(CLI::Range(1e-3, 1e6))
      ->delimiter(',')
      ->excludes(clients);
  command->add_option("--requests", flags->requests, "of each run; 0: four a client, or 64")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command->add_option("--distinct", flags->distinct, "different requests, which are repeated in turn; 0: all are")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command
      ->add_option("--input-tokens", flags->input_tokens,
                   "tokens of a prompt: N, A-B (uniform) or MEDIAN~SPREAD (log-normal)")
      ->capture_default_str();
  command->add_option("--output-tokens", flags->output_tokens, "new tokens of a request, likewise")
      ->capture_default_str();
  command->add_option("--token-ids", flags->token_ids, "prompts are drawn from these ids")->capture_default_str();
  command->add_option("--shared-prefix", flags->shared_prefix, "tokens with which all prompts begin")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command->add_option("--prompt-file", flags->prompt_file, "a prompt a line, instead of drawn ones");
  command->add_flag("--stops", flags->stops, "answers end where the model ends them, not at their number of tokens");
  command->add_option("--temperature", flags->temperature, "of the answers")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "of lengths, prompts, arrivals and answers")->capture_default_str();
  command->add_option("--most-ttft", flags->most_ttft, "seconds to the first token of a request that is in time")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command->add_option("--most-tbt", flags->most_tbt, "seconds between its tokens, on average")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command->add_option("--timeout", flags->target.timeout_seconds, "seconds without a byte of an answer")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  command->add_flag("--check", flags->check, "ask every request again alone, and compare the texts");
  command->add_option("--json", flags->json, "write the figures to a JSON file");
  command->add_option("--svg", flags->svg, "draw them");
  command->footer(
      "Exit status 1 when a request failed, or differed from itself.\n"
      "Example:\n  mxmla bench serve --concurrency 1,4,16,64 --input-tokens 200~0.5 --output-tokens 64");
  command->callback([flags] { BenchServe(*flags); });
}

}  // namespace mxmla::app
