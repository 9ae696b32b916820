// mxmla tokenize and detokenize: text to token ids and back.
#include <fmt/format.h>

#include <memory>

#include "common.h"
#include "core/error.h"
#include "quote.h"
#include "text/utf8.h"

namespace mxmla::app {
namespace {

struct TokenizeFlags {
  std::string model, text, file;
  bool has_text = false, has_file = false;
  bool ids = false, no_special = false;
};

struct DetokenizeFlags {
  std::string model;
  std::vector<std::string> ids;
  bool no_special = false;
};

void Tokenize(const TokenizeFlags& flags) {
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::Load(ResolveModel(flags.model));
  const bool from_stdin = flags.has_text && flags.text == "-";
  const std::string text = flags.has_file ? ReadText(flags.file, "--file")
                           : from_stdin   ? ReadText("-", "TEXT")
                                          : flags.text;
  const std::vector<int32_t> ids = tokenizer->Encode(text, !flags.no_special);
  if (flags.ids) {
    fmt::print("{}\n", fmt::join(ids, ","));
    return;
  }
  for (const int32_t id : ids) {
    fmt::print("{:>8}  {}{}\n", id, Quote(tokenizer->TokenBytes(id)), tokenizer->IsSpecial(id) ? "  special" : "");
  }
}

void Detokenize(const DetokenizeFlags& flags) {
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::Load(ResolveModel(flags.model));
  const bool from_stdin = flags.ids.empty() || (flags.ids.size() == 1 && flags.ids[0] == "-");
  const std::string list = from_stdin ? "@-" : fmt::format("{}", fmt::join(flags.ids, ","));
  const std::vector<int32_t> ids = ParseTokens(list, from_stdin ? "ids on standard input" : "ID");
  for (const int32_t id : ids) {
    if (id >= 0 && id < tokenizer->vocab_size()) continue;
    Fail(ErrorCode::kTokenRange, "ID", fmt::format("an id in 0..{}", tokenizer->vocab_size() - 1),
         fmt::format("{}", id), "is the tokenizer the model's own?");
  }
  fmt::print("{}\n", ReplaceInvalidUtf8(tokenizer->Decode(ids, flags.no_special)));
}

}  // namespace

void AddTokenize(CLI::App& app) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* command = app.add_subcommand("tokenize", "Show the tokens of a text");
  command->add_option("MODEL", flags->model, "model folder (its tokenizer files suffice), or tiny-gsm")->required();
  CLI::Option* text = command->add_option("TEXT", flags->text, "the text; - is standard input, as it is");
  CLI::Option* file = command->add_option("--file", flags->file, "text from a file; - is standard input");
  command->add_flag("--ids", flags->ids, "print one line of comma-separated ids, as run --tokens takes them");
  command->add_flag("--no-special", flags->no_special,
                    "without the tokens that the folder asks for around a text, such as the begin-of-text token");
  command->footer("Example:\n  mxmla tokenize tiny-gsm \"Tom has 5 apples.\"");
  command->callback([flags, text, file] {
    flags->has_text = text->count() > 0;
    flags->has_file = file->count() > 0;
    if (flags->has_text == flags->has_file) {
      throw CLI::ValidationError("TEXT", "give a TEXT, --file FILE, or - for standard input");
    }
    Tokenize(*flags);
  });
}

void AddDetokenize(CLI::App& app) {
  auto flags = std::make_shared<DetokenizeFlags>();
  CLI::App* command = app.add_subcommand("detokenize", "Show the text of token ids");
  command->add_option("MODEL", flags->model, "model folder (its tokenizer files suffice), or tiny-gsm")->required();
  command->add_option("ID", flags->ids, "token ids, separated by spaces or commas; without any, standard input's");
  command->add_flag("--no-special", flags->no_special, "leave special tokens out");
  command->footer(
      "Example:\n  mxmla detokenize tiny-gsm 0 261 512\n"
      "  mxmla tokenize tiny-gsm \"Tom has 5 apples.\" --ids | mxmla detokenize tiny-gsm");
  command->callback([flags] { Detokenize(*flags); });
}

}  // namespace mxmla::app
