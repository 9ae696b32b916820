// Compiles grammars of strangers first in a process of their own, which may run out of time, memory or stack without
// harm: the compiler cannot be stopped from outside.
#pragma once

#include <functional>
#include <memory>

#include "grammar/source_limits.h"

namespace mxmla {

// Makes the compiler: in the process, and again wherever it is needed.
using MakeGrammarCompiler = std::function<std::unique_ptr<GrammarCompiler>()>;

class GrammarTrial {
 public:
  // Forks a process that waits for sources and forks once more for each of them; it ends with this object or with
  // whoever made it. To be made before the program has threads, whose locks a fork would take along.
  GrammarTrial(const MakeGrammarCompiler& make, const GrammarLimits& limits);
  ~GrammarTrial();
  GrammarTrial(const GrammarTrial&) = delete;
  GrammarTrial& operator=(const GrammarTrial&) = delete;

  // Returns if the source can be compiled within the limits. Errors (kUsage): what GrammarCompiler::Compile says of it,
  // or the limit that it exceeds. Blocks; safe from several threads.
  void Check(const GrammarSource& source) const;

 private:
  [[noreturn]] void Serve(int socket, const MakeGrammarCompiler& make) const;
  [[noreturn]] void Compile(const GrammarCompiler& compiler, const GrammarSource& source, int result) const;

  const GrammarLimits limits_;
  int socket_ = -1;  // messages to the process: a kind's byte and the text, with a pipe for the result
  int process_ = -1;
};

}  // namespace mxmla
