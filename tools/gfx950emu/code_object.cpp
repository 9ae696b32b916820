#include "code_object.h"

#include <elf.h>
#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "disassembly.h"
#include "error.h"
#include "operations.h"

namespace gfx950emu {
namespace {

constexpr uint32_t kMachineMask = 0xff, kGfx950 = 0x4f;
constexpr uint32_t kAmdgpuMetadata = 32;

template <class T>
T ReadAt(const std::vector<uint8_t>& bytes, uint64_t at) {
  if (at > bytes.size() || bytes.size() - at < sizeof(T)) throw Error("a code object that ends early");
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

std::vector<Elf64_Shdr> Sections(const std::vector<uint8_t>& elf) {
  const auto header = ReadAt<Elf64_Ehdr>(elf, 0);
  std::vector<Elf64_Shdr> sections;
  for (int i = 0; i < header.e_shnum; ++i) {
    sections.push_back(ReadAt<Elf64_Shdr>(elf, header.e_shoff + static_cast<uint64_t>(i) * header.e_shentsize));
  }
  return sections;
}

uint32_t Number(const nlohmann::json& object, const char* key) {
  return object.contains(key) ? object.at(key).get<uint32_t>() : 0;
}

}  // namespace

CodeObject::CodeObject(std::vector<uint8_t> elf) : elf_(std::move(elf)) {
  const auto header = ReadAt<Elf64_Ehdr>(elf_, 0);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != 224) {
    throw Error("expected an ELF file for amdgcn");
  }
  if ((header.e_flags & kMachineMask) != kGfx950) {
    throw Error(fmt::format("expected code for gfx950, found machine {:#x}", header.e_flags & kMachineMask));
  }
  uint64_t end = 0;
  const std::vector<Elf64_Shdr> sections = Sections(elf_);
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_flags & SHF_ALLOC) end = std::max(end, section.sh_addr + section.sh_size);
    if (section.sh_type == SHT_RELA && section.sh_size > 0) throw Error("a code object with relocations");
  }
  image_.resize(end);
  for (const Elf64_Shdr& section : sections) {
    if (!(section.sh_flags & SHF_ALLOC) || section.sh_type == SHT_NOBITS) continue;
    if (section.sh_offset + section.sh_size > elf_.size()) throw Error("a code object that ends early");
    std::memcpy(image_.data() + section.sh_addr, elf_.data() + section.sh_offset, section.sh_size);
  }
  ReadMetadata();
  ReadSymbols();
}

// A kernel is a function and a descriptor of 64 bytes, whose name has ".kd" behind it.
void CodeObject::ReadSymbols() {
  const std::vector<Elf64_Shdr> sections = Sections(elf_);
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_DYNSYM) continue;
    const uint64_t strings = sections.at(section.sh_link).sh_offset;
    for (uint64_t at = 0; at < section.sh_size; at += sizeof(Elf64_Sym)) {
      const auto symbol = ReadAt<Elf64_Sym>(elf_, section.sh_offset + at);
      std::string name(reinterpret_cast<const char*>(elf_.data() + strings + symbol.st_name));
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC) {
        if (const auto found = kernels_.find(name); found != kernels_.end()) found->second.code_bytes = symbol.st_size;
      } else if (name.ends_with(".kd")) {
        name.resize(name.size() - 3);
        const auto found = kernels_.find(name);
        if (found == kernels_.end()) throw Error("a kernel without metadata: " + name);
        Kernel& kernel = found->second;
        const uint64_t descriptor = symbol.st_value;
        kernel.lds_bytes = ReadAt<uint32_t>(image_, descriptor);
        kernel.scratch_bytes = ReadAt<uint32_t>(image_, descriptor + 4);
        kernel.entry = descriptor + static_cast<uint64_t>(ReadAt<int64_t>(image_, descriptor + 16));
        kernel.rsrc1 = ReadAt<uint32_t>(image_, descriptor + 48);
        kernel.rsrc2 = ReadAt<uint32_t>(image_, descriptor + 52);
        kernel.properties = ReadAt<uint16_t>(image_, descriptor + 56);
        kernel.preload = ReadAt<uint16_t>(image_, descriptor + 58);
      }
    }
  }
}

void CodeObject::ReadMetadata() {
  for (const Elf64_Shdr& section : Sections(elf_)) {
    if (section.sh_type != SHT_NOTE) continue;
    for (uint64_t at = section.sh_offset; at + sizeof(Elf64_Nhdr) <= section.sh_offset + section.sh_size;) {
      const auto note = ReadAt<Elf64_Nhdr>(elf_, at);
      const auto padded = [](uint64_t bytes) { return (bytes + 3) & ~uint64_t{3}; };
      const uint64_t body = at + sizeof(note) + padded(note.n_namesz);
      at = body + padded(note.n_descsz);
      if (note.n_type != kAmdgpuMetadata) continue;
      if (at > elf_.size()) throw Error("a code object that ends early");
      const auto metadata = nlohmann::json::from_msgpack(elf_.data() + body, elf_.data() + body + note.n_descsz);
      for (const auto& of_kernel : metadata.at("amdhsa.kernels")) {
        Kernel kernel;
        kernel.name = of_kernel.at(".name").get<std::string>();
        kernel.kernarg_bytes = Number(of_kernel, ".kernarg_segment_size");
        kernel.vgprs = Number(of_kernel, ".vgpr_count");
        kernel.agprs = Number(of_kernel, ".agpr_count");
        kernel.sgprs = Number(of_kernel, ".sgpr_count");
        kernel.vgpr_spills = Number(of_kernel, ".vgpr_spill_count");
        kernel.sgpr_spills = Number(of_kernel, ".sgpr_spill_count");
        kernel.most_threads = Number(of_kernel, ".max_flat_workgroup_size");
        if (of_kernel.contains(".args")) {
          for (const auto& argument : of_kernel.at(".args")) {
            kernel.arguments.push_back({Number(argument, ".offset"), Number(argument, ".size"),
                                        argument.at(".value_kind").get<std::string>()});
          }
        }
        const std::string name = kernel.name;
        kernels_.emplace(name, std::move(kernel));
      }
    }
  }
  if (kernels_.empty()) throw Error("a code object without kernels");
}

std::vector<std::string> CodeObject::KernelNames() const {
  std::vector<std::string> names;
  for (const auto& [name, kernel] : kernels_) names.push_back(name);
  return names;
}

const Kernel& CodeObject::Find(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = kernels_.find(name);
  if (found == kernels_.end()) throw Error("no kernel named " + name);
  if (found->second.code.empty()) Decode(found->second);
  return found->second;
}

void CodeObject::Decode(Kernel& kernel) {
  if (kernel.preload != 0) throw Error(kernel.name + ": preloaded kernel arguments are not modelled");
  // The mode that results here assume: subnormals kept, round to nearest even.
  const uint32_t mode = kernel.rsrc1 >> 12 & 0xff;
  if (mode != 0xf0) throw Error(fmt::format("{}: float mode {:#x}, expected 0xf0", kernel.name, mode));
  kernel.code = Disassemble(elf_, kernel.entry, kernel.entry + kernel.code_bytes);
  const auto base = reinterpret_cast<uint64_t>(image_.data());
  std::map<uint64_t, const Instruction*> by_address;
  for (const Instruction& instruction : kernel.code) by_address[instruction.address] = &instruction;
  for (Instruction& instruction : kernel.code) {
    const auto at = [&](uint64_t address) {
      const auto found = by_address.find(address);
      return found == by_address.end() ? nullptr : found->second;
    };
    instruction.next = at(instruction.address + instruction.bytes);
    if (instruction.name == "s_branch" || instruction.name.starts_with("s_cbranch_")) {
      const auto words = static_cast<int16_t>(instruction.operands.at(0).bits);
      instruction.target = at(instruction.address + 4 + static_cast<uint64_t>(int64_t{words} * 4));
      if (!instruction.target) throw Error("a branch out of its kernel: " + instruction.text);
    }
  }
  for (Instruction& instruction : kernel.code) instruction.address += base;
}

std::map<std::string, int> CodeObject::UnknownOpcodes(const Kernel& kernel) {
  std::map<std::string, int> unknown;
  for (const Instruction& instruction : kernel.code) {
    if (!FindOperation(instruction.name)) ++unknown[instruction.name];
  }
  return unknown;
}

}  // namespace gfx950emu
