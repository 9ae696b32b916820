// mxmla serve: the model behind an HTTP interface that OpenAI's clients know.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>

#include "common.h"
#include "core/available_memory.h"
#include "generation.h"
#include "serve/engine_thread.h"
#include "serve/server.h"

namespace mxmla::app {
namespace {

struct ServeFlags {
  std::string model, name, access_log, key_file;
  std::string chat_template, tool_parser = "auto", reasoning_parser = "auto";
  serve::ServerOptions server;
  int64_t max_context = 0, max_sequences = 0, max_batch_tokens = 0;
  double kv_gigabytes = 0;
  int64_t drain_seconds = 30, header_seconds = 30, body_seconds = 60, idle_seconds = 75, write_seconds = 120;
  int64_t grammar_megabytes = 1024;
  GrammarServiceOptions grammars;
  int64_t stored_megabytes = 64;
  int64_t max_header_kilobytes = 64, max_body_megabytes = 32, max_unsent_kilobytes = 4096;
  CommonFlags common;
};

constexpr int64_t kLongestDefaultContext = 32768;
// Requests at once where the flag says nothing: so many where the cache's memory has room for them. Most requests are
// much shorter than the context; one that finds no page left waits, or is computed anew.
constexpr int64_t kMostSequencesOfHost = 32, kMostSequencesOfDevice = 128;
constexpr int64_t kContextsShare = 8, kLeastTokensEach = 1024;
// Whole chunks of a conversation's prompt are found in the cache by its next turn.
constexpr int64_t kPrefillChunk = 256;

// Bytes of one token in the caches of all layers.
double KvBytesPerToken(const ModelConfig& config, const ModelOptions& options, DType activation) {
  const KvDType dtype = options.kv_dtype;
  const double plain = activation == DType::kF32 && dtype == KvDType::kAuto ? 4 : 2;
  const auto latent = static_cast<double>(config.kv_lora_rank);
  const auto key = static_cast<double>(config.qk_rope_head_dim);
  const double row = dtype == KvDType::kFp8 ? latent + latent / 128 * 4 + 2 * key : plain * (latent + key);
  const int64_t index_keys = UsesIndexer(config, options) ? config.IndexerLayers() * config.indexer.head_dim : 0;
  return row * static_cast<double>(config.num_hidden_layers) + plain * static_cast<double>(index_keys);
}

ModelOptions SchedulerSizes(const ServeFlags& flags, const LoadedModel& model, int64_t max_context) {
  ModelOptions options = flags.common.ToModelOptions();
  options.max_context = max_context;
  options.max_batch_tokens = flags.max_batch_tokens > 0 ? flags.max_batch_tokens : model.backend->prefill_rows();
  options.prefill_chunk = kPrefillChunk;
  const double token = KvBytesPerToken(model.config, options, model.backend->kernels().activation_dtype);
  // Some of what is free, so that the rest of the machine lives, or of a device most, which is there for this; never
  // more than all sequences can fill.
  const auto on_device = model.backend->FreeMemory();
  const double free = on_device ? 0.7 * static_cast<double>(*on_device) : 0.3 * static_cast<double>(AvailableMemory());
  const double room = flags.kv_gigabytes > 0 ? flags.kv_gigabytes * 1e9 : free;
  const int64_t whole = (max_context + options.page_size - 1) / options.page_size;
  const auto fitting = static_cast<int64_t>(room / token) / options.page_size;
  options.max_sequences = flags.max_sequences;
  if (options.max_sequences == 0) {
    const int64_t each = std::min(max_context, std::max(kLeastTokensEach, max_context / kContextsShare));
    const int64_t most = on_device ? kMostSequencesOfDevice : kMostSequencesOfHost;
    options.max_sequences = std::clamp(fitting * options.page_size / each, int64_t{1}, most);
  }
  options.kv_pages = std::min(fitting, whole * options.max_sequences);
  if (options.kv_pages < whole) {
    Fail(ErrorCode::kMemory, "KV cache",
         fmt::format("room for one request of {} tokens, {}", max_context,
                     HumanBytes(token * static_cast<double>(max_context))),
         HumanBytes(room), "lower --max-context, or raise --kv-memory");
  }
  return options;
}

serve::ServedText ReadText(const ServeFlags& flags, const std::string& folder, const ModelConfig& config) {
  serve::ServedText text;
  const std::filesystem::path path = std::filesystem::weakly_canonical(folder);
  text.name = !flags.name.empty() ? flags.name : path.filename().string();
  text.created = std::time(nullptr);
  text.vocab_size = config.vocab_size;
  const int64_t longest = config.max_position_embeddings;
  if (flags.max_context > longest) {
    Fail(ErrorCode::kPromptTooLong, "--max-context", fmt::format("at most the model's {} tokens", longest),
         fmt::format("{}", flags.max_context));
  }
  text.max_context = flags.max_context > 0 ? flags.max_context : std::min(longest, kLongestDefaultContext);
  text.tokenizer = OpenTokenizer(folder, config);
  if (!flags.chat_template.empty()) {
    text.chat = ChatTemplate::LoadWithTokensOf(folder, flags.chat_template);
  } else {
    try {
      text.chat = ChatTemplate::Load(folder);
    } catch (const Error& error) {
      Note(fmt::format("chat is refused: {}", error.what()));
    }
  }
  if (text.chat) {
    text.tool_form = ProbeToolMessages(*text.chat);
    text.format.tools = FindToolFormat(flags.tool_parser, *text.tokenizer, text.tool_form);
    text.format.reasoning = FindReasoningFormat(flags.reasoning_parser, *text.tokenizer, *text.chat);
  }
  text.suggested = ReadSuggestedSampling(folder);
  text.end_tokens = StopTokens(config, text.tokenizer.get(), false);
  text.chat_tokens = StopTokens(config, text.tokenizer.get(), true);
  return text;
}

std::vector<std::string> ReadKeys(const ServeFlags& flags) {
  std::vector<std::string> keys = flags.server.api_keys;
  if (!flags.key_file.empty()) {
    std::string text = app::ReadText(flags.key_file, "--api-key-file");
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      std::string key = text.substr(begin, end - begin);
      while (!key.empty() && (key.back() == '\r' || key.back() == ' ')) key.pop_back();
      if (!key.empty()) keys.push_back(std::move(key));
      begin = end + 1;
    }
    if (keys.empty()) Fail(ErrorCode::kUsage, "--api-key-file " + flags.key_file, "a key a line", "none");
  }
  return keys;
}

// Lines to a file, or to stderr for "-". One that cannot be written is lost: requests do not wait for a disk.
std::function<void(const std::string&)> OpenAccessLog(const std::string& path) {
  if (path.empty()) return {};
  std::shared_ptr<std::FILE> file;
  if (path == "-") {
    file = std::shared_ptr<std::FILE>(stderr, [](std::FILE*) {});
  } else {
    file = std::shared_ptr<std::FILE>(std::fopen(path.c_str(), "ae"), [](std::FILE* f) {
      if (f) std::fclose(f);
    });
    if (!file) Fail(ErrorCode::kOutput, "--access-log " + path, "a file that can be written", std::strerror(errno));
  }
  return [file, mutex = std::make_shared<std::mutex>()](const std::string& line) {
    const std::lock_guard lock(*mutex);
    std::fwrite((line + "\n").data(), 1, line.size() + 1, file.get());
    std::fflush(file.get());
    std::clearerr(file.get());
  };
}

// Before any other thread.
std::shared_ptr<GrammarService> StartGrammars(const ServeFlags& flags, const serve::ServedText& text) {
  GrammarServiceOptions options = flags.grammars;
  options.limits.memory_bytes = static_cast<size_t>(flags.grammar_megabytes) << 20;
  // The tokenizer lives as long as the server, which has the service.
  const auto make = [tokenizer = text.tokenizer.get(), vocab_size = text.vocab_size, ends = text.chat_tokens] {
    return std::make_unique<GrammarCompiler>(*tokenizer, vocab_size, ends);
  };
  return std::make_shared<GrammarService>(make, options);
}

sigset_t ServerSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&signals, signal);
  return signals;
}

void Reload(const ServeFlags& flags, serve::Server& server) {
  try {
    server.ReloadTls();
    server.SetApiKeys(ReadKeys(flags));
    Note("certificates and keys were read again");
  } catch (const std::exception& error) {
    PrintStderr("mxmla: {}; the old ones stay\n", PrintableLine(error.what(), 1000));
  }
}

// Lets requests end, for at most --drain-timeout or until a second signal.
void Drain(const ServeFlags& flags, serve::Server& server, const sigset_t& signals) {
  server.Drain();
  Note(fmt::format("ending after {} open requests", server.open_requests()));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(flags.drain_seconds);
  while (server.open_requests() > 0 && std::chrono::steady_clock::now() < deadline) {
    const timespec wait{0, 50'000'000};
    const int signal = sigtimedwait(&signals, nullptr, &wait);
    if (signal == SIGTERM || signal == SIGINT) break;
  }
}

void Serve(ServeFlags flags) {
  const std::string folder = ResolveModel(flags.model);
  const ModelConfig config = LoadConfig(folder);
  serve::ServedText text = ReadText(flags, folder, config);
  flags.server.http.header_timeout = std::chrono::seconds(flags.header_seconds);
  flags.server.http.body_timeout = std::chrono::seconds(flags.body_seconds);
  flags.server.http.idle_timeout = std::chrono::seconds(flags.idle_seconds);
  flags.server.http.write_timeout = std::chrono::seconds(flags.write_seconds);
  flags.server.http.max_header_bytes = static_cast<size_t>(flags.max_header_kilobytes) << 10;
  flags.server.http.max_body_bytes = static_cast<size_t>(flags.max_body_megabytes) << 20;
  flags.server.stored_bytes = static_cast<size_t>(flags.stored_megabytes) << 20;
  flags.server.http.max_unsent_bytes = static_cast<size_t>(flags.max_unsent_kilobytes) << 10;
  serve::ServerOptions options = flags.server;
  options.api_keys = ReadKeys(flags);
  options.access_log = OpenAccessLog(flags.access_log);

  // Every thread inherits this; the signals are waited for below.
  const sigset_t signals = ServerSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);  // NOLINT(cert-err33-c)
  text.grammars = StartGrammars(flags, text);
  const std::string name = text.name;
  const int64_t max_context = text.max_context;
  std::exception_ptr failure;
  const auto load = [&] {
    auto served = std::make_unique<serve::ServedModel>();
    try {
      served->model = OpenModel(folder, flags.common.device);
      served->options = SchedulerSizes(flags, served->model, max_context);
    } catch (...) {
      failure = std::current_exception();
      throw;
    }
    return served;
  };
  const auto on_loaded = [&](const serve::EngineState& state) {
    if (state.phase == serve::EngineState::Phase::kReady) {
      Note(fmt::format("{} is ready: up to {} requests at once, {} tokens of context each, {} pages of cache", name,
                       state.max_sequences, max_context, state.pages));
    } else {
      kill(getpid(), SIGUSR1);  // wakes the wait below
    }
  };
  serve::Server server(std::move(options), std::move(text),
                       [&] { return std::make_unique<serve::EngineThread>(load, on_loaded); });
  const std::string& host = flags.server.http.host;
  fmt::print("listening on {}://{}:{}\n", flags.server.http.tls_certificate.empty() ? "http" : "https",
             host.find(':') == std::string::npos ? host : "[" + host + "]", server.port());
  std::fflush(stdout);
  for (;;) {
    int signal = 0;
    sigwait(&signals, &signal);
    if (signal == SIGHUP) {
      Reload(flags, server);
    } else if (signal == SIGUSR1) {
      if (failure) std::rethrow_exception(failure);
    } else {
      return Drain(flags, server, signals);
    }
  }
}

}  // namespace

void AddServe(CLI::App& app) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app.add_subcommand("serve", "Serve the model over HTTP, as OpenAI's clients expect it");
  serve::HttpServerOptions& http = flags->server.http;
  const auto seconds = [&](const char* flag, int64_t* value, const char* help) {
    command->add_option(flag, *value, help)->check(CLI::Range(1, 86400))->capture_default_str();
  };
  command->add_option("MODEL", flags->model, "model folder, or tiny-gsm")->required();
  command->add_option("--host", http.host, "address to listen on")->capture_default_str();
  command->add_option("--port", http.port, "0 takes a free one, which is printed")->capture_default_str();
  command->add_option("--name", flags->name, "the model's name for clients; the folder's without it");
  command->add_option("--chat-template", flags->chat_template, "a Jinja file in place of the model's own template");
  const auto parser = [&](const char* flag, std::string* value, std::vector<std::string> names, const char* help) {
    names.insert(names.begin(), {"auto", "none"});
    command->add_option(flag, *value, help)->check(CLI::IsMember(names))->capture_default_str();
  };
  parser("--tool-parser", &flags->tool_parser, ToolFormatNames(),
         "how the model writes calls of tools; auto: as its chat template does");
  parser("--reasoning-parser", &flags->reasoning_parser, ReasoningFormatNames(),
         "how it marks its thoughts; auto: as its vocabulary and template show");
  command
      ->add_option("--max-context", flags->max_context,
                   "tokens of a request, prompt and answer; 0: the model's, at most 32768")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30))
      ->capture_default_str();
  command
      ->add_option("--max-sequences", flags->max_sequences,
                   "requests that run at once, the others wait; 0: as many as the KV cache has room for, at most 32 "
                   "(128 on a GPU)")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  command
      ->add_option("--max-batch-tokens", flags->max_batch_tokens,
                   "rows of prompts in a step; 0: 512 (2048 on an NVIDIA GPU)")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  command->add_option("--max-queue", flags->server.max_queue, "requests that may wait; further ones get status 429")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--kv-memory", flags->kv_gigabytes,
                   "GB of the KV cache; 0: 30% of what is free (70% of a GPU), as far as needed")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command->add_option("--api-key", flags->server.api_keys, "a key that clients must send; may be given more than once")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--api-key-file", flags->key_file, "keys, a line each; SIGHUP reads it again");
  CLI::Option* certificate = command->add_option("--tls-cert", http.tls_certificate, "certificate chain (PEM): HTTPS");
  CLI::Option* key = command->add_option("--tls-key", http.tls_key, "its private key (PEM); SIGHUP reads both again");
  certificate->needs(key);
  key->needs(certificate);
  command
      ->add_option("--allow-origin", flags->server.allowed_origins,
                   "origin of pages that may ask (CORS), or *; may be given more than once")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      ->add_option("--allow-host", flags->server.allowed_hosts,
                   "a name of this machine that clients may use, or *, where the server has no key and listens to this "
                   "machine alone; may be given more than once")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      ->add_option("--stored-responses", flags->server.stored_responses,
                   "answers of /v1/responses that are kept for later requests; 0: none")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("--stored-memory", flags->stored_megabytes, "MB that they may take")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  CLI::Option* log = command->add_option("--access-log", flags->access_log,
                                         "a JSON line a request, without texts, to a file; - is stderr");
  command
      ->add_flag("--log-bodies", flags->server.log_bodies, "the access log has what clients send, too, prompts and all")
      ->needs(log);
  command->add_option("--http-threads", http.threads, "threads for connections")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--max-connections", http.max_connections, "further ones wait")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--max-header", flags->max_header_kilobytes, "kB of a request's headers")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--max-body", flags->max_body_megabytes, "MB of a request's body")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command
      ->add_option("--max-unsent", flags->max_unsent_kilobytes,
                   "kB that may wait for a slow reader before it is cut off")
      ->check(CLI::Range(16, 1 << 20))
      ->capture_default_str();
  seconds("--header-timeout", &flags->header_seconds, "seconds for a request's headers");
  seconds("--body-timeout", &flags->body_seconds, "seconds for its body");
  seconds("--idle-timeout", &flags->idle_seconds, "seconds between requests of a connection");
  seconds("--write-timeout", &flags->write_seconds, "seconds in which a reader takes something");
  command
      ->add_option("--grammar-timeout", flags->grammars.limits.seconds,
                   "seconds of the processor that a schema or grammar may take to compile")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  command->add_option("--grammar-memory", flags->grammar_megabytes, "MB that it may take")
      ->check(CLI::Range(16, 1 << 20))
      ->capture_default_str();
  seconds("--drain-timeout", &flags->drain_seconds, "seconds that SIGTERM leaves to running requests");
  flags->common.AddTo(*command);
  command->footer("Example:\n  mxmla serve tiny-gsm --port 8000");
  command->callback([flags] { Serve(*flags); });
}

}  // namespace mxmla::app
