// What a source of strangers may be, whatever it says.
#pragma once

#include <cstddef>

#include "grammar/grammar.h"

namespace mxmla {

struct GrammarLimits {
  size_t source_bytes = size_t{100} << 10;  // of a source's text; the pipe to a trial takes no more than 128 kB
  // Of a JSON schema, or those in a structural tag: the compiler takes quadratic time for chains of $ref, cubic for
  // nested types.
  size_t references = 1000;
  int depth = 100;
  int seconds = 10;                       // of the processor, to compile one
  size_t memory_bytes = size_t{1} << 30;  // likewise; a build under a sanitizer knows no such limit
};

// Errors (kUsage): a source beyond source_bytes, references or depth, which the message names. Text that is not JSON is
// the compiler's to refuse.
void CheckSourceLimits(const GrammarSource& source, const GrammarLimits& limits);

}  // namespace mxmla
