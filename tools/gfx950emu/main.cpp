// gfx950emu FILE.co..: the kernels of code objects with their registers, LDS, scratch and spills, as JSON lines, and
// opcodes that the emulator does not know. Exit status 1 when there are some, 2 when a file cannot be read.
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <iterator>

#include "code_object.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: gfx950emu FILE.co..\n");
    return 2;
  }
  bool unknown = false;
  for (int file = 1; file < argc; ++file) {
    try {
      std::ifstream in(argv[file], std::ios::binary);
      if (!in) throw std::runtime_error("cannot be opened");
      gfx950emu::CodeObject object({std::istreambuf_iterator<char>(in), {}});
      for (const std::string& name : object.KernelNames()) {
        const gfx950emu::Kernel& kernel = object.Find(name);
        size_t matrix = 0;
        for (const auto& instruction : kernel.code) matrix += instruction.name.starts_with("v_mfma_") ? 1 : 0;
        fmt::print(
            R"({{"file": "{}", "kernel": "{}", "vgprs": {}, "agprs": {}, "sgprs": {}, "lds_bytes": {}, "scratch_bytes": {}, "vgpr_spills": {}, "sgpr_spills": {}, "threads": {}, "instructions": {}, "mfma": {}}})"
            "\n",
            argv[file], name, kernel.vgprs, kernel.agprs, kernel.sgprs, kernel.lds_bytes, kernel.scratch_bytes,
            kernel.vgpr_spills, kernel.sgpr_spills, kernel.most_threads, kernel.code.size(), matrix);
        for (const auto& [opcode, count] : gfx950emu::CodeObject::UnknownOpcodes(kernel)) {
          fmt::print(stderr, "gfx950emu: {}: {}: unknown opcode {}, {} times\n", argv[file], name, opcode, count);
          unknown = true;
        }
      }
    } catch (const std::exception& error) {
      fmt::print(stderr, "gfx950emu: {}: {}\n", argv[file], error.what());
      return 2;
    }
  }
  return unknown ? 1 : 0;
}
