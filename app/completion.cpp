// mxmla completion: what shells need to complete commands, flags and their values, written from the parser's own tree.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "command_tree.h"
#include "common.h"

namespace mxmla::app {
namespace {

// What can stand for a flag's value, or for a positional.
enum class Value { kNone, kChoices, kNumber, kFile };

Value ValueOf(const FlagText& flag) {
  if (flag.value.empty()) return Value::kNone;
  if (!flag.choices.empty()) return Value::kChoices;
  return flag.value == "INT" || flag.value == "UINT" || flag.value == "FLOAT" ? Value::kNumber : Value::kFile;
}

std::string Joined(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

// All commands with their paths, "/bench/decode", the program's own being "".
void Flatten(const CommandText& command, std::vector<std::pair<std::string, const CommandText*>>* all) {
  std::string path;
  if (!command.name.empty()) path = "/" + command.name;
  std::replace(path.begin(), path.end(), ' ', '/');
  all->emplace_back(path, &command);
  for (const CommandText& sub : command.commands) Flatten(sub, all);
}

std::string LastWord(const std::string& name) { return name.substr(name.rfind(' ') + 1); }

std::vector<std::string> SubcommandNames(const CommandText& command) {
  std::vector<std::string> names;
  for (const CommandText& sub : command.commands) names.push_back(LastWord(sub.name));
  return names;
}

using Commands = std::vector<std::pair<std::string, const CommandText*>>;

std::string Bash(const Commands& commands) {
  std::string paths, values, words;
  for (const auto& [path, command] : commands) {
    if (!path.empty()) paths += fmt::format("      {}) path={} ;;\n", path, path);
    std::vector<std::string> names, numbers, files;
    for (const FlagText& flag : command->flags) {
      names.insert(names.end(), flag.names.begin(), flag.names.end());
      const Value value = ValueOf(flag);
      for (const std::string& name : flag.names) {
        const std::string pattern = fmt::format("\"{} {}\"", path, name);
        if (value == Value::kNumber) numbers.push_back(pattern);
        if (value == Value::kFile) files.push_back(pattern);
        if (value == Value::kChoices) {
          values += fmt::format("    {}) words=\"{}\" ;;\n", pattern, Joined(flag.choices, " "));
        }
      }
    }
    if (!numbers.empty()) values += fmt::format("    {}) return ;;\n", Joined(numbers, "|"));
    if (!files.empty()) values += fmt::format("    {}) files=1 ;;\n", Joined(files, "|"));
    std::vector<std::string> others = SubcommandNames(*command);
    std::string more;
    for (const FlagText& positional : command->positionals) {
      if (positional.name() == "MODEL") others.insert(others.end(), {"tiny-gsm", "tiny-gsm-bf16"});
      others.insert(others.end(), positional.choices.begin(), positional.choices.end());
      if (positional.choices.empty()) more = " files=1";
    }
    words += fmt::format("    \"{}\") flags=\"{}\" words=\"{}\"{} ;;\n", path, Joined(names, " "), Joined(others, " "),
                         more);
  }
  return fmt::format(R"(# bash completion of mxmla, written by: mxmla completion bash
_mxmla() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous= path= words= flags= files= i
  COMPREPLY=()
  ((COMP_CWORD > 0)) && previous=${{COMP_WORDS[COMP_CWORD - 1]}}
  # --flag=value comes as three words.
  if [[ $current == "=" ]]; then
    current=
  elif [[ $previous == "=" ]] && ((COMP_CWORD > 1)); then
    previous=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path/${{COMP_WORDS[i]}}" in
{}    esac
  done
  case "$path $previous" in
{}    *) case "$path" in
{}    esac ;;
  esac
  [[ $current == -* ]] && words=$flags files=
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  if [[ -n $files ]]; then
    local found
    mapfile -t found < <(compgen -f -- "$current")
    COMPREPLY+=("${{found[@]}}")
    compopt -o filenames 2>/dev/null
  fi
}}
complete -F _mxmla mxmla
)",
                     paths, values, words);
}

std::string ZshText(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out;
}

std::string ZshValue(const FlagText& flag) {
  switch (ValueOf(flag)) {
    case Value::kNone:
      return "";
    case Value::kChoices:
      return fmt::format(":{}:({})", flag.value, ZshText(Joined(flag.choices, " ")));
    case Value::kNumber:
      return fmt::format(":{}: ", flag.value);
    case Value::kFile:
      return fmt::format(":{}:_files", flag.value);
  }
  return "";
}

std::string Zsh(const Commands& commands) {
  std::string functions;
  for (const auto& [path, command] : commands) {
    std::string name = "_mxmla" + path;
    std::replace(name.begin(), name.end(), '/', '_');
    std::string specs;
    for (const FlagText& flag : command->flags) {
      for (const std::string& spelled : flag.names) {
        const char* const equals = !flag.value.empty() && spelled.starts_with("--") ? "=" : "";
        specs += fmt::format(" \\\n    '{}{}{}[{}]{}'", flag.repeats ? "*" : "", spelled, equals,
                             ZshText(flag.description), ZshValue(flag));
      }
    }
    if (command->commands.empty()) {
      for (const FlagText& positional : command->positionals) {
        const std::string values = !positional.choices.empty()
                                       ? fmt::format("({})", ZshText(Joined(positional.choices, " ")))
                                   : positional.name() == "MODEL" ? "_mxmla_models"
                                                                  : "_files";
        specs += fmt::format(" \\\n    '{}:{}:{}'", positional.repeats ? "*" : "", positional.name(), values);
      }
      functions += fmt::format("{}() {{\n  _arguments{}\n}}\n\n", name, specs);
      continue;
    }
    std::string names, cases;
    for (const CommandText& sub : command->commands) {
      const std::string word = LastWord(sub.name);
      names += fmt::format("      '{}:{}'\n", word, ZshText(sub.description));
      cases += fmt::format("        {}) {}_{} ;;\n", word, name, word);
    }
    functions += fmt::format(
        "{}() {{\n  local state line\n  _arguments -C{} \\\n    '1: :->command' '*:: :->rest'\n  case $state in\n"
        "    command)\n      local -a commands=(\n{}      )\n      _describe command commands ;;\n"
        "    rest)\n      case $line[1] in\n{}      esac ;;\n  esac\n}}\n\n",
        name, specs, names, cases);
  }
  return fmt::format(
      "#compdef mxmla\n# zsh completion of mxmla, written by: mxmla completion zsh\n\n"
      "_mxmla_models() {{\n  local -a embedded=(tiny-gsm tiny-gsm-bf16)\n  _describe 'embedded model' embedded\n"
      "  _files -/\n}}\n\n{}"
      "# The file is either loaded as the function's body, or read as a whole.\n"
      "if [[ $funcstack[1] == _mxmla ]]; then _mxmla \"$@\"; else compdef _mxmla mxmla; fi\n",
      functions);
}

std::string FishText(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string Fish(const Commands& commands) {
  std::string paths, lines;
  for (const auto& [path, command] : commands) {
    if (!path.empty()) paths += " " + path;
    const std::string at = fmt::format("complete -c mxmla -n \"__mxmla_at '{}'\"", path);
    for (const CommandText& sub : command->commands) {
      lines += fmt::format("{} -f -a {} -d {}\n", at, LastWord(sub.name), FishText(sub.description));
    }
    for (const FlagText& flag : command->flags) {
      lines += at;
      for (const std::string& name : flag.names) {
        lines += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      switch (ValueOf(flag)) {
        case Value::kNone:
          break;
        case Value::kChoices:
          lines += " -x -a " + FishText(Joined(flag.choices, " "));
          break;
        case Value::kNumber:
          lines += " -x";
          break;
        case Value::kFile:
          lines += " -r";
          break;
      }
      lines += fmt::format(" -d {}\n", FishText(flag.description));
    }
    for (const FlagText& positional : command->positionals) {
      if (positional.name() == "MODEL") lines += at + " -a 'tiny-gsm tiny-gsm-bf16' -d 'embedded model'\n";
      if (!positional.choices.empty()) lines += at + " -f -a " + FishText(Joined(positional.choices, " ")) + "\n";
    }
  }
  return fmt::format(R"(# fish completion of mxmla, written by: mxmla completion fish
function __mxmla_at
    set -l path ''
    for word in (commandline -opc)[2..-1]
        if contains -- "$path/$word"{}
            set path "$path/$word"
        end
    end
    test "$path" = "$argv[1]"
end

{})",
                     paths, lines);
}

}  // namespace

void AddCompletion(CLI::App& app) {
  CLI::App* command = app.add_subcommand("completion", "Write what a shell completes commands and flags with");
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "the shell to write for")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer("Example:\n  mxmla completion bash > ~/.local/share/bash-completion/completions/mxmla");
  command->callback([&app, shell] {
    const CommandText tree = ReadCommands(app);
    Commands commands;
    Flatten(tree, &commands);
    fmt::print("{}", *shell == "bash" ? Bash(commands) : *shell == "zsh" ? Zsh(commands) : Fish(commands));
  });
}

}  // namespace mxmla::app
