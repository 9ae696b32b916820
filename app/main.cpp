// mxmla: multi-head latent attention models from a Hugging Face folder to text.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <new>

#include "common.h"
#include "core/note.h"
#include "core/partial_outputs.h"

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
  app::PrintStderr("mxmla: {}; see mxmla {}--help\n", PrintableLine(line), command);
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

// A closed standard stream would let the next file that is opened take its place. They become /dev/null, the first two
// in the direction that is of no use, so that reading or writing them stays an error.
void OpenStandardStreams() {
  for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free descriptor is this one.
    if (open("/dev/null", stream == STDOUT_FILENO ? O_RDONLY : O_WRONLY) != stream) return;
  }
}

int Main(int argc, char** argv) {
  OpenStandardStreams();
  // A reader that went away ends the program quietly, as it does for other filters.
  std::signal(SIGPIPE, SIG_DFL);
  InstallSignalHandlers();
  SetNoteSink(app::Note);
  CLI::App app{
      "mxmla runs language models with multi-head latent attention (DeepSeek, Kimi, GLM-4.7-Flash, ...)\n"
      "whose weights are MXFP4, FP8 or BF16."};
  app.set_version_flag("--version", std::string("mxmla ") + MXMLA_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Example:\n  mxmla run tiny-gsm --prompt \"Tom has 5 apples. He buys 7 more. How many apples does he have?\"");
  app::AddRun(app);
  app::AddChat(app);
  app::AddServe(app);
  app::AddTokenize(app);
  app::AddDetokenize(app);
  app::AddLogits(app);
  app::AddInspect(app);
  app::AddQuantize(app);
  app::AddEval(app);
  app::AddProfile(app);
  app::AddBench(app);
  app::AddCompletion(app);
  app::AddManual(app);
  try {
    CheckCommand(app, argc, argv);
    app.parse(argc, argv);
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) app::FailStdout();
    return 0;
  } catch (const app::ExitStatus& exit) {
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) return static_cast<int>(ErrorCode::kOutput);
    return exit.status;
  } catch (const CLI::ParseError& error) {
    return ReportUsage(app, error);
  } catch (const Error& error) {
    std::fflush(stdout);
    app::PrintStderr("mxmla: {}\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    app::PrintStderr("mxmla: memory: expected room for the model's buffers, found too little\n");
    return static_cast<int>(ErrorCode::kMemory);
  } catch (const std::exception& error) {
    app::PrintStderr("mxmla: internal error: {}\n", PrintableLine(error.what()));
    return static_cast<int>(ErrorCode::kInternal);
  }
}

}  // namespace
}  // namespace mxmla

int main(int argc, char** argv) { return mxmla::Main(argc, argv); }
