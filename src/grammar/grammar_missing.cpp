// In a build without xgrammar's library (tools/xgrammar.sh): nothing is compiled, and so nothing else is ever called.
#include "core/error.h"
#include "grammar/grammar.h"

namespace mxmla {

struct GrammarCompiler::State {};
struct GrammarConstraint::State {};
class CompiledGrammar {};

namespace {
[[noreturn]] void Refuse() {
  Fail(ErrorCode::kUsage, "structured output", "a build with xgrammar", "one without it",
       "run tools/xgrammar.sh where packages can be fetched, and build again");
}
}  // namespace

bool HasGrammars() { return false; }
GrammarCompiler::GrammarCompiler(const Tokenizer&, int64_t, std::span<const int32_t>) { Refuse(); }
GrammarCompiler::~GrammarCompiler() = default;
std::shared_ptr<const CompiledGrammar> GrammarCompiler::Compile(const GrammarSource&) const { Refuse(); }
size_t GrammarBytes(const CompiledGrammar&) { Refuse(); }
GrammarConstraint::GrammarConstraint(std::shared_ptr<const CompiledGrammar>, ThinkingTokens) : free_(false) {
  Refuse();
}
GrammarConstraint::~GrammarConstraint() = default;
GrammarConstraint::GrammarConstraint(const GrammarConstraint&) : free_(false) { Refuse(); }
void GrammarConstraint::operator()(std::span<const int32_t>, std::span<uint32_t>) { Refuse(); }
void GrammarConstraint::Accept(int32_t) { Refuse(); }

}  // namespace mxmla
