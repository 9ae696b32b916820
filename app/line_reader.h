// Lines of standard input, with Ctrl-C seen while waiting for one.
#pragma once

#include <string>

#include "interrupt.h"

namespace mxmla::app {

class LineReader {
 public:
  enum class Outcome { kLine, kInterrupt, kEnd };

  // `interrupts` outlives this.
  explicit LineReader(Interrupts& interrupts) : interrupts_(interrupts) {}

  // The next line without its end, in `line`. A last line needs no end. Throws an Error (kData) where reading fails.
  Outcome Read(std::string* line);

 private:
  bool TakeLine(std::string* line);

  Interrupts& interrupts_;
  std::string buffer_;
  size_t searched_ = 0;  // bytes of the buffer that hold no line's end
  bool ended_ = false;
};

}  // namespace mxmla::app
