// mxmla: multi-head latent attention models from a Hugging Face folder to text.
#include <fmt/format.h>

#include <csignal>
#include <exception>
#include <new>
#include <string_view>

#include "common.h"

namespace mxmla {
namespace {

// CLI11 prints several lines; a user gets one, and what to do.
int ReportUsage(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  std::string line = error.what();
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  std::string command;
  const CLI::App* chosen = &app;
  while (!chosen->get_subcommands().empty()) {
    chosen = chosen->get_subcommands().front();
    // Option groups count as subcommands without a name.
    if (chosen->get_name().empty() || chosen->get_display_name() != chosen->get_name()) break;
    command += chosen->get_name() + " ";
  }
  fmt::print(stderr, "mxmla: {}; see mxmla {}--help\n", line, command);
  return static_cast<int>(ErrorCode::kUsage);
}

// CLI11 would only say that a command is missing.
void CheckCommand(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::string known;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == argv[1]) return;
    known += (known.empty() ? "" : ", ") + command->get_name();
  }
  Fail(ErrorCode::kUsage, "command", known, argv[1], "see mxmla --help");
}

// The engine's finding of NaN logits knows no command; here is the one that names the tensor.
bool IsNanLogits(const Error& error) {
  return error.code() == ErrorCode::kTensor && std::string_view(error.what()).starts_with("logits ");
}

int Main(int argc, char** argv) {
  // A reader that went away ends the program quietly, as it does for other filters.
  std::signal(SIGPIPE, SIG_DFL);
  CLI::App app{
      "mxmla runs language models with multi-head latent attention (DeepSeek-V2/V3/R1, Kimi-K2)\n"
      "whose weights are MXFP4, FP8 or BF16."};
  app.set_version_flag("--version", std::string("mxmla ") + MXMLA_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Example:\n  mxmla run tiny-gsm --prompt \"Tom has 5 apples. He buys 7 more. How many apples does he have?\"");
  app::AddRun(app);
  app::AddLogits(app);
  app::AddInspect(app);
  app::AddQuantize(app);
  app::AddEval(app);
  app::AddProfile(app);
  app::AddBench(app);
  try {
    CheckCommand(app, argc, argv);
    app.parse(argc, argv);
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) app::FailStdout();
    return 0;
  } catch (const CLI::ParseError& error) {
    return ReportUsage(app, error);
  } catch (const Error& error) {
    std::fflush(stdout);
    fmt::print(stderr, "mxmla: {}{}\n", error.what(),
               IsNanLogits(error) ? ": run mxmla inspect --check MODEL to find them" : "");
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "mxmla: memory: expected room for the model's buffers, found too little\n");
    return static_cast<int>(ErrorCode::kMemory);
  } catch (const std::exception& error) {
    fmt::print(stderr, "mxmla: internal error: {}\n", error.what());
    return static_cast<int>(ErrorCode::kInternal);
  }
}

}  // namespace
}  // namespace mxmla

int main(int argc, char** argv) { return mxmla::Main(argc, argv); }
