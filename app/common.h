// What the subcommands share: the model argument, the common flags, token lists, and their messages.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/loaded_model.h"
#include "model/options.h"
#include "text/tokenizer.h"

namespace mxmla::app {

// Thrown by a command that did its work and still ends with another status than 0.
struct ExitStatus {
  int status;
};
constexpr int kInterruptedStatus = 130;  // ended by SIGINT, as shells report it

// The flag --device.
void AddDevice(CLI::App& command, DeviceOptions* device);

// The flags every command that computes takes.
struct CommonFlags {
  DeviceOptions device;
  std::string v_layout = "fused";
  std::string absorb_dtype = "checkpoint";
  std::string activations = "bf16";
  std::string kv_dtype = "auto";

  void AddTo(CLI::App& command);
  // The parts of ModelOptions that flags decide. Prints a note when --absorb-dtype re-quantises.
  ModelOptions ToModelOptions() const;
};

// A folder, or the name of an embedded model ("tiny-gsm", "tiny-gsm-bf16"), which is found from any working directory:
// in MXMLA_DATA, beside the program, or in the source tree. Errors: kNoModel.
std::string ResolveModel(const std::string& model);

// A config.json by its path, or by its place in the project ("configs/kimi-k2.json") from any working directory.
std::string ResolveConfigFile(const std::string& path);

// Opens the model and prints what was skipped, a line each, on stderr.
LoadedModel OpenModel(const std::string& folder, const DeviceOptions& device);

// Lets `model` show on stderr how its weights reach a device: a bar on a terminal, and a note of the speed behind large
// models.
void ShowUploads(LoadedModel* model);

// The folder's tokenizer, checked against the model's vocabulary (kVocabulary).
std::unique_ptr<Tokenizer> OpenTokenizer(const std::string& folder, const ModelConfig& config);

// "1,2,3", separated by commas or white space, or "@FILE" with the same in a file (a JSON list is fine too). Errors:
// kUsage for what is no number, kData for a file that cannot be read, kTokenRange for a number that fits no token.
// `flag` names the list in them.
std::vector<int32_t> ParseTokens(const std::string& list, const std::string& flag = "--tokens");

// The text of a file, or of standard input for "-". Errors: kData, also where reading fails midway.
std::string ReadText(const std::string& path, const std::string& flag);

// Throws the Error (kOutput) of a standard output that cannot be written.
[[noreturn]] void FailStdout();

// Text on stderr. One that cannot be written changes nothing: the results and the exit status do not depend on it.
void PrintStderr(std::string_view text);
template <class... Arguments>
void PrintStderr(fmt::format_string<Arguments...> format, Arguments&&... arguments) requires(sizeof...(Arguments) > 0) {
  PrintStderr(std::string_view(fmt::format(format, std::forward<Arguments>(arguments)...)));
}

// One line on stderr: "note: ...".
void Note(const std::string& text);

// "1.43 GB", "576 B"
std::string HumanBytes(double bytes);

// Each adds its subcommand to `app`; its callback does the work and throws on failure.
void AddRun(CLI::App& app);
void AddChat(CLI::App& app);
void AddTokenize(CLI::App& app);
void AddDetokenize(CLI::App& app);
void AddLogits(CLI::App& app);
void AddInspect(CLI::App& app);
void AddQuantize(CLI::App& app);
void AddServe(CLI::App& app);
void AddEval(CLI::App& app);
void AddProfile(CLI::App& app);
void AddBench(CLI::App& app);
void AddCompletion(CLI::App& app);
void AddManual(CLI::App& app);

}  // namespace mxmla::app
