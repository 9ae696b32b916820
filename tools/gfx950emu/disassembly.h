// Instructions of a code object, decoded by LLVM's disassembler: its text is parsed into operands and modifiers.
#pragma once

#include <cstdint>
#include <deque>
#include <string_view>
#include <vector>

#include "instruction.h"

namespace gfx950emu {

// The instructions in [begin, end) of the image. Errors: no llvm-objdump of version 22, or text that cannot be parsed.
std::deque<Instruction> Disassemble(const std::vector<uint8_t>& elf, uint64_t begin, uint64_t end);

// One line, without address and encoding: "v_add_f32_e32 v0, v1, v2".
Instruction ParseInstruction(std::string_view text);

}  // namespace gfx950emu
