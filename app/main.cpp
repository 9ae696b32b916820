// mxmla: multi-head latent attention models from a Hugging Face folder to text.
#include <fmt/format.h>

#include <csignal>
#include <exception>
#include <new>

#include "common.h"

namespace {

// CLI11 prints several lines; a user gets one, and what to do.
int ReportUsage(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  std::string line = error.what();
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  const auto chosen = app.get_subcommands();
  fmt::print(stderr, "mxmla: {}; see mxmla {}--help\n", line, chosen.empty() ? "" : chosen.front()->get_name() + " ");
  return static_cast<int>(mxmla::ErrorCode::kUsage);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mxmla;
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
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return ReportUsage(app, error);
  } catch (const Error& error) {
    std::fflush(stdout);
    fmt::print(stderr, "mxmla: {}\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "mxmla: memory: expected room for the model's buffers, found too little\n");
    return static_cast<int>(ErrorCode::kMemory);
  } catch (const std::exception& error) {
    fmt::print(stderr, "mxmla: internal error: {}\n", error.what());
    return static_cast<int>(ErrorCode::kInternal);
  }
}
