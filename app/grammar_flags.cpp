#include "grammar_flags.h"

#include "common.h"
#include "grammar/grammar.h"

namespace mxmla::app {
namespace {

GrammarSource Source(const GrammarFlags& flags) {
  if (!flags.json_schema.empty()) return {GrammarKind::kJsonSchema, ReadText(flags.json_schema, "--json-schema")};
  if (!flags.regex.empty()) return {GrammarKind::kRegex, flags.regex};
  if (!flags.grammar.empty()) return {GrammarKind::kEbnf, ReadText(flags.grammar, "--grammar")};
  return ChoiceGrammar(flags.choices);
}

}  // namespace

void GrammarFlags::AddTo(CLI::App& command) {
  CLI::Option_group* group = command.add_option_group("output", "what the text has to match; at most one of these");
  group->add_option("--json-schema", json_schema, "a JSON schema in a file; - is standard input");
  group->add_option("--regex", regex, "a regular expression of the whole text");
  group->add_option("--grammar", grammar, "rules NAME ::= ... in a file, the first named root; - is standard input");
  group->add_option("--choice", choices, "a text; given more than once, one of them")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  group->require_option(0, 1);
}

void GrammarFlags::ApplyTo(GenerateRequest* request, int64_t vocab_size) const {
  const GrammarCompiler compiler(*request->tokenizer, vocab_size, request->stop_tokens);
  request->restrict_tokens =
      GrammarConstraint(compiler.Compile(Source(*this)), ThinkingAfter(*request->tokenizer, request->prompt));
}

}  // namespace mxmla::app
