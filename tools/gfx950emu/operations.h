// The table of operations: a handler for every opcode that the emulator knows, by the assembler's name of it.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "instruction.h"

namespace gfx950emu {

struct Operation {
  Handler run = nullptr;
  Counted counted = Counted::kNo;
  bool loads = false;
};

using OperationTable = std::unordered_map<std::string, Operation>;

// One a kind of instruction, each in the file of that name.
void AddScalarAlu(OperationTable& table);
void AddControl(OperationTable& table);
void AddVectorInteger(OperationTable& table);
void AddVectorFloat(OperationTable& table);
void AddVectorDouble(OperationTable& table);
void AddVectorCompare(OperationTable& table);
void AddConversions(OperationTable& table);
void AddCrossLane(OperationTable& table);
void AddGlobalMemory(OperationTable& table);
void AddLds(OperationTable& table);
void AddMatrix(OperationTable& table);

// Null for an opcode that is not known.
const Operation* FindOperation(const std::string& name);
std::vector<std::string> OperationNames();

}  // namespace gfx950emu
