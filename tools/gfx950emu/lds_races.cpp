#include "lds_races.h"

#include <fmt/format.h>

namespace gfx950emu {

std::string LdsRaces::Describe(uint32_t address, int wave, LdsAccess access) const {
  const Word& word = words_[address / 4];
  const uint8_t writer = word.writer[address % 4];
  const std::string other = writer == kAtomics ? "an atomic"
                            : writer != 0      ? fmt::format("a write of wave {}", writer - 1)
                                               : fmt::format("reads of waves {:#x}", word.readers);
  const char* kind = access == LdsAccess::kRead ? "read" : access == LdsAccess::kWrite ? "write" : "atomic";
  return fmt::format("LDS race at byte {}: {} of wave {} and {} without a barrier between", address, kind, wave, other);
}

}  // namespace gfx950emu
