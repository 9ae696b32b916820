// mxmla quantize: a folder or GGUF file of any format that is read to one of MXFP4, FP8 blocks or BF16.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoint/quantize.h"
#include "common.h"
#include "core/gguf.h"
#include "text/gguf_vocabulary.h"

namespace mxmla::app {
namespace {

struct QuantizeFlags {
  std::string source, destination;
  std::string format = "mxfp4";
  std::string scale_mode = "even";
  std::vector<std::string> exclude;
  int threads = 0;
  bool requantize = false;
};

std::atomic<bool> cancelled{false};

void Cancel(int) { cancelled = true; }

// Redrawn in place on a terminal; elsewhere a line for every tenth.
class ProgressLine {
 public:
  void Show(const QuantizeProgress& progress) {
    const auto percent =
        static_cast<int>(progress.total_bytes ? 100 * progress.done_bytes / progress.total_bytes : 100);
    if (percent == last_ || (!terminal_ && percent / 10 == last_ / 10 && last_ >= 0)) return;
    last_ = percent;
    PrintStderr("{}quantising {:3}% of {}{}", terminal_ ? "\r" : "", percent,
                HumanBytes(static_cast<double>(progress.total_bytes)), terminal_ ? "" : "\n");
  }
  ~ProgressLine() {
    if (terminal_ && last_ >= 0) PrintStderr(std::string_view("\n"));
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  int last_ = -1;
};

// A GGUF file's tokenizer and chat template as the files that other engines read.
std::map<std::string, std::string> TokenizerFiles(const std::string& gguf) {
  const auto file = GgufFile::Open(gguf);
  try {
    if (IsKimiVocabulary(file->header())) {
      Fail(ErrorCode::kTokenizer, gguf + ": tokenizer.ggml.pre", "a tokenizer that tokenizer.json can hold", "kimi-k2");
    }
    return {{"tokenizer.json", GgufAsTokenizerJson(file->header(), gguf).dump(1) + "\n"},
            {"tokenizer_config.json", GgufAsTokenizerConfig(file->header(), gguf).dump(1) + "\n"}};
  } catch (const Error& error) {
    Note(fmt::format("the folder gets no tokenizer, take the model's own: {}", error.what()));
    return {};
  }
}

void Quantize(const QuantizeFlags& flags) {
  const std::string source = ResolveModel(flags.source);
  ThreadPool pool(flags.threads > 0 ? flags.threads : ThreadPool::AvailableProcessors());
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
    if (std::signal(signal, Cancel) == SIG_IGN) std::signal(signal, SIG_IGN);  // nohup's choice stands
  }
  QuantizeOptions options;
  options.format = flags.format == "bf16"  ? TargetFormat::kBf16
                   : flags.format == "fp8" ? TargetFormat::kFp8
                                           : TargetFormat::kMxfp4;
  options.requantize = flags.requantize;
  options.exclude = flags.exclude;
  options.scale_mode = flags.scale_mode == "floor"  ? ScaleMode::kFloor
                       : flags.scale_mode == "ceil" ? ScaleMode::kCeil
                                                    : ScaleMode::kEven;
  options.pool = &pool;
  options.cancel = &cancelled;
  ProgressLine line;
  options.progress = [&line](const QuantizeProgress& progress) { line.Show(progress); };
  if (const std::string gguf = FindGguf(source); !gguf.empty()) options.files = TokenizerFiles(gguf);
  const QuantizeResult result = QuantizeCheckpoint(source, flags.destination, options);
  for (const std::string& note : result.notes) Note(note);
  const std::string_view name = flags.format == "bf16" ? "BF16" : flags.format == "fp8" ? "FP8" : "MXFP4";
  fmt::print("{:<16}{:>10}{:>20}\n", "group", "matrices", "relative error");
  for (const QuantizeError& error : result.errors) {
    fmt::print("{:<16}{:>10}{:>20.2e}\n", error.group, error.matrices, error.relative);
  }
  fmt::print("{}: {} matrices in {}, {} kept; {} from {}, {} file{}\n", flags.destination, result.quantized, name,
             result.kept, HumanBytes(static_cast<double>(result.output_bytes)),
             HumanBytes(static_cast<double>(result.source_bytes)), result.shards, result.shards == 1 ? "" : "s");
}

}  // namespace

void AddQuantize(CLI::App& app) {
  auto flags = std::make_shared<QuantizeFlags>();
  CLI::App* command = app.add_subcommand("quantize", "Convert a model folder or GGUF file to MXFP4, FP8 or BF16");
  command->add_option("SRC", flags->source, "model folder or GGUF file, in any format that is read")->required();
  command->add_option("DST", flags->destination, "folder to make; it must not exist")->required();
  command->add_option("--format", flags->format, "weights' format: Quark's MXFP4, DeepSeek's FP8 or BF16")
      ->check(CLI::IsMember({"mxfp4", "fp8", "bf16"}))
      ->required();
  command->add_flag("--requantize", flags->requantize,
                    "let weights of 4 bits become MXFP4: two roundings instead of one");
  command
      ->add_option("--exclude", flags->exclude,
                   "modules to keep as they are: a name, a glob or re:REGEX; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--scale-mode", flags->scale_mode, "how a block's exponent follows from its largest magnitude")
      ->check(CLI::IsMember({"even", "floor", "ceil"}))
      ->capture_default_str();
  command->add_option("--threads", flags->threads, "threads; 0 uses every available processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->footer(
      "Example:\n  mxmla quantize DeepSeek-V2-Lite DeepSeek-V2-Lite-MXFP4 --format mxfp4 --exclude \"*self_attn*\"");
  command->callback([flags] { Quantize(*flags); });
}

}  // namespace mxmla::app
