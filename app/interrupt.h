// Ctrl-C as a wish to stop, not the end of the program.
#pragma once

#include <csignal>

namespace mxmla::app {

// While one lives, SIGINT is only counted; where the caller of the program has it ignored, it stays so. One at a time.
class Interrupts {
 public:
  // With `only_first`, a second SIGINT does what it did before: it ends the program.
  explicit Interrupts(bool only_first);
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  bool pending() const;
  // Whether one was pending; none is any more.
  bool Take();
  // Becomes readable with a SIGINT, for poll; Take empties it.
  int descriptor() const;

 private:
  struct sigaction previous_ {};
};

}  // namespace mxmla::app
