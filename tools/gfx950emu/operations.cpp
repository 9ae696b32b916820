#include "operations.h"

namespace gfx950emu {
namespace {

const OperationTable& Table() {
  static const OperationTable table = [] {
    OperationTable made;
    AddScalarAlu(made);
    AddControl(made);
    AddVectorInteger(made);
    AddVectorFloat(made);
    AddVectorDouble(made);
    AddVectorCompare(made);
    AddConversions(made);
    AddCrossLane(made);
    AddGlobalMemory(made);
    AddLds(made);
    AddMatrix(made);
    return made;
  }();
  return table;
}

}  // namespace

const Operation* FindOperation(const std::string& name) {
  const auto at = Table().find(name);
  return at == Table().end() ? nullptr : &at->second;
}

std::vector<std::string> OperationNames() {
  std::vector<std::string> names;
  for (const auto& [name, operation] : Table()) names.push_back(name);
  return names;
}

}  // namespace gfx950emu
