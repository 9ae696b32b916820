// mxmla manual: the man page, written from the parser's own tree, so that it says what --help says.
#include <fmt/format.h>

#include <algorithm>

#include "command_tree.h"
#include "common.h"
#include "exit_statuses.h"

namespace mxmla::app {
namespace {

// A flag that so many commands share is described once.
constexpr int kShared = 4;

// The text as roff reads it: no request at a line's beginning, dashes that can be copied.
std::string Roff(std::string_view text) {
  std::string out;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) out += "\\&";
    line_begins = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

std::string Names(const FlagText& flag) {
  std::string names;
  for (const std::string& name : flag.names)
    names += fmt::format("{}\\fB{}\\fR", names.empty() ? "" : ", ", Roff(name));
  return names;
}

std::string ValueName(const FlagText& flag) {
  return flag.choices.empty() ? "\\fI" + Roff(flag.value) + "\\fR"
                              : fmt::format("\\fI{}\\fR", Roff(fmt::format("{}", fmt::join(flag.choices, "|"))));
}

std::string FlagEntry(const FlagText& flag) {
  std::string entry = ".TP\n" + Names(flag);
  if (!flag.value.empty()) entry += " " + ValueName(flag) + (flag.repeats ? " ..." : "");
  entry += "\n" + Roff(flag.description);
  if (!flag.range.empty()) entry += Roff(fmt::format(" [{}]", flag.range));
  if (!flag.default_value.empty()) entry += Roff(fmt::format(" (default: {})", flag.default_value));
  return entry + "\n";
}

std::string Synopsis(const CommandText& command) {
  std::string line = "\\fBmxmla " + Roff(command.name) + "\\fR [\\fIoptions\\fR]";
  for (const FlagText& positional : command.positionals) {
    const std::string name = "\\fI" + Roff(positional.name()) + "\\fR" + (positional.repeats ? " ..." : "");
    line += positional.required ? " " + name : " [" + name + "]";
  }
  return line;
}

void Leaves(const CommandText& command, std::vector<const CommandText*>* leaves) {
  if (command.commands.empty()) leaves->push_back(&command);
  for (const CommandText& sub : command.commands) Leaves(sub, leaves);
}

std::string Commands(const std::vector<const CommandText*>& leaves, const std::vector<FlagText>& shared) {
  std::string text;
  for (const CommandText* command : leaves) {
    text += fmt::format(".SS mxmla {}\n{}\n.PP\n{}.\n", Roff(command->name), Synopsis(*command),
                        Roff(command->description));
    if (!command->notes.empty()) text += Roff(command->notes);
    for (const FlagText& positional : command->positionals) {
      text += fmt::format(".TP\n\\fI{}\\fR\n{}", Roff(positional.name()), Roff(positional.description));
      text += positional.choices.empty() ? "\n" : ": " + ValueName(positional) + "\n";
    }
    std::string also;
    for (const FlagText& flag : command->flags) {
      if (flag.name() == "--help") continue;
      if (std::find(shared.begin(), shared.end(), flag) == shared.end()) {
        text += FlagEntry(flag);
      } else {
        also += (also.empty() ? "" : ", ") + Names(flag);
      }
    }
    if (!also.empty()) text += ".PP\nShared options: " + also + ".\n";
    if (!command->example.empty()) text += fmt::format(".PP\n.EX\n{}\n.EE\n", Roff(command->example));
  }
  return text;
}

std::string Manual(const CommandText& program) {
  std::vector<const CommandText*> leaves;
  Leaves(program, &leaves);
  std::vector<FlagText> shared;
  std::vector<std::pair<FlagText, int>> counts;
  for (const CommandText* command : leaves) {
    for (const FlagText& flag : command->flags) {
      const auto known = std::ranges::find(counts, flag, &std::pair<FlagText, int>::first);
      if (known == counts.end()) {
        counts.emplace_back(flag, 1);
      } else if (++known->second == kShared && flag.name() != "--help") {
        shared.push_back(flag);
      }
    }
  }
  std::string text = fmt::format(".TH MXMLA 1 \"\" \"mxmla {}\" \"User Commands\"\n", MXMLA_VERSION);
  text += ".SH NAME\nmxmla \\- run language models with multi\\-head latent attention\n";
  text +=
      ".SH SYNOPSIS\n\\fBmxmla\\fR \\fIcommand\\fR [\\fIoptions\\fR]\n.br\n\\fBmxmla\\fR [\\fIcommand\\fR] "
      "\\fB\\-\\-help\\fR\n.br\n\\fBmxmla\\fR \\fB\\-\\-version\\fR\n";
  text += ".SH DESCRIPTION\n" + Roff(program.description) +
          "\n.PP\nA model is a folder as Hugging Face lays it out: config.json, *.safetensors, and tokenizer.json or "
          "tiktoken.model; or the name of an embedded one, \\fBtiny\\-gsm\\fR.\n";
  text += ".SH COMMANDS\n" + Commands(leaves, shared);
  text += ".SH SHARED OPTIONS\nThese mean the same in every command that takes them.\n";
  for (const FlagText& flag : shared) text += FlagEntry(flag);
  text +=
      ".SH EXIT STATUS\nA failure is one line on the standard error: what it is about, what was expected, what was "
      "found, what to do.\n";
  for (const auto& [status, meaning] : kExitStatuses)
    text += fmt::format(".TP\n\\fB{}\\fR\n{}\n", status, Roff(meaning));
  text +=
      ".SH ENVIRONMENT\n.TP\n\\fBMXMLA_DATA\\fR\nthe folder that holds models/ and configs/, where they are not beside "
      "the program\n.TP\n\\fBMXMLA_ISA\\fR\nportable, avx2 or avx512: a lesser instruction set than the processor's\n";
  text +=
      ".SH SIGNALS\n\\fBmxmla serve\\fR ends after its running requests on SIGTERM and SIGINT, at once on a second "
      "one, "
      "and reads keys and certificates again on SIGHUP.\n";
  return text;
}

}  // namespace

void AddManual(CLI::App& app) {
  CLI::App* command = app.add_subcommand("manual", "Write the man page, in roff");
  command->footer("Example:\n  mxmla manual | man -l -");
  command->callback([&app] { fmt::print("{}", Manual(ReadCommands(app))); });
}

}  // namespace mxmla::app
