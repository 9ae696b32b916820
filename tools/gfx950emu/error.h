// What stops an emulated kernel: an access out of bounds, a race, an instruction that the emulator does not know.
#pragma once

#include <stdexcept>

namespace gfx950emu {

class Error : public std::runtime_error {
 public:
  using runtime_error::runtime_error;
};

}  // namespace gfx950emu
