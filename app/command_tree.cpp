#include "command_tree.h"

#include <algorithm>
#include <string_view>

namespace mxmla::app {
namespace {

// What lies between the first `open` and the next `close`; empty where they are not.
std::string Between(std::string_view text, std::string_view open, std::string_view close) {
  const size_t begin = text.find(open);
  if (begin == std::string_view::npos) return {};
  const size_t from = begin + open.size();
  const size_t end = text.find(close, from);
  return std::string(text.substr(from, end == std::string_view::npos ? end : end - from));
}

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

FlagText ReadFlag(const CLI::Option& option) {
  FlagText flag;
  for (const std::string& name : option.get_snames()) flag.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) flag.names.push_back("--" + name);
  if (flag.names.empty()) flag.names.push_back(option.get_name(true));
  flag.description = option.get_description();
  flag.required = option.get_required();
  flag.repeats =
      option.get_items_expected_max() > 1 || option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
  if (option.get_items_expected_max() == 0) return flag;
  // "INT:INT in [0 - 1024]", "TEXT:{copy,strided,fused}"
  const std::string type = option.get_type_name();
  flag.value = type.substr(0, type.find_first_of(":{"));
  if (flag.value.empty()) flag.value = "TEXT";
  flag.choices = Split(Between(type, "{", "}"), ',');
  flag.range = Between(type, " in [", "]");
  flag.default_value = option.get_default_str();
  return flag;
}

// A group's options are the command's.
void ReadOptions(const CLI::App& app, CommandText* command) {
  for (const CLI::Option* option : app.get_options()) {
    (option->nonpositional() ? command->flags : command->positionals).push_back(ReadFlag(*option));
  }
  for (const CLI::App* group : app.get_subcommands([](const CLI::App* sub) { return sub->get_name().empty(); })) {
    ReadOptions(*group, command);
  }
}

CommandText ReadCommand(const CLI::App& app, const std::string& prefix) {
  CommandText command;
  command.name = prefix;
  command.description = app.get_description();
  const std::string footer = app.get_footer();
  const size_t example = footer.find("Example:\n  ");
  command.notes = footer.substr(0, example);
  if (example != std::string::npos) command.example = footer.substr(example + 11);
  ReadOptions(app, &command);
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App* s) { return !s->get_name().empty(); })) {
    command.commands.push_back(ReadCommand(*sub, prefix.empty() ? sub->get_name() : prefix + " " + sub->get_name()));
  }
  return command;
}

}  // namespace

CommandText ReadCommands(const CLI::App& app) { return ReadCommand(app, ""); }

}  // namespace mxmla::app
