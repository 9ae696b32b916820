// The commands and flags as the parser knows them, for what is written from them: completions and the man page.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace mxmla::app {

struct FlagText {
  std::vector<std::string> names;  // with their dashes; a positional's single name without
  std::string value;               // the kind of its value, "TEXT", "INT" or "FLOAT"; empty for a switch
  std::vector<std::string> choices;
  std::string range;  // "0 - 1024"; may be empty
  std::string default_value;
  std::string description;
  bool required = false;
  bool repeats = false;  // takes several values

  const std::string& name() const { return names.back(); }
  bool operator==(const FlagText&) const = default;
};

struct CommandText {
  std::string name;  // "bench decode"; empty for the program itself
  std::string description;
  std::string notes;    // what --help says before the example; may be empty
  std::string example;  // a command line
  std::vector<FlagText> positionals, flags;
  std::vector<CommandText> commands;
};

CommandText ReadCommands(const CLI::App& app);

}  // namespace mxmla::app
