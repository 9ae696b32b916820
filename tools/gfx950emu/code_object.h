// A code object for gfx950 (an ELF file, code object version 5): its kernels with what their descriptors and metadata
// say, and their instructions, decoded by LLVM when a kernel is first asked for.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "instruction.h"

namespace gfx950emu {

struct KernelArgument {
  uint32_t offset = 0, size = 0;
  std::string kind;  // "by_value", "global_buffer", "hidden_block_count_x", ...
};

struct Kernel {
  std::string name;
  uint64_t entry = 0;       // in the image
  uint64_t code_bytes = 0;  // of its function
  uint32_t lds_bytes = 0, scratch_bytes = 0, kernarg_bytes = 0;
  uint32_t rsrc1 = 0, rsrc2 = 0;
  uint16_t properties = 0, preload = 0;
  uint32_t vgprs = 0, agprs = 0, sgprs = 0, vgpr_spills = 0, sgpr_spills = 0, most_threads = 0;
  std::vector<KernelArgument> arguments;

  std::deque<Instruction> code;  // empty until decoded
};

class CodeObject {
 public:
  // Errors: not an ELF file for gfx950, metadata missing.
  explicit CodeObject(std::vector<uint8_t> elf);
  CodeObject(const CodeObject&) = delete;

  // The names of all kernels, and one of them with its instructions. Errors: no kernel of that name, or an instruction
  // that the decoder cannot read. An unknown opcode is an error when it runs only.
  std::vector<std::string> KernelNames() const;
  const Kernel& Find(const std::string& name);
  bool Has(const std::string& name) const { return kernels_.contains(name); }
  // Opcodes of a kernel that the emulator does not know, by name.
  static std::map<std::string, int> UnknownOpcodes(const Kernel& kernel);

  // The loaded image: code and constants.
  const std::vector<uint8_t>& image() const { return image_; }

 private:
  void ReadSymbols();
  void ReadMetadata();
  void Decode(Kernel& kernel);

  std::vector<uint8_t> elf_;
  std::vector<uint8_t> image_;
  std::map<std::string, Kernel> kernels_;
  std::mutex mutex_;
};

}  // namespace gfx950emu
