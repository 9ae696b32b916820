// No opcode that the emulator knows is left without a case: fails where the tests of this program, all of them, ran one
// in no Lab.
#include <gtest/gtest.h>

#include "lab.h"
#include "operations.h"

namespace gfx950emu {
namespace {

class EachOpcodeHasRun : public testing::Environment {
 public:
  void TearDown() override {
    if (testing::GTEST_FLAG(filter) != "*") return;
    for (const std::string& name : OperationNames()) EXPECT_TRUE(RunOpcodes().contains(name)) << name << " has no case";
  }
};

const testing::Environment* const kAdded = testing::AddGlobalTestEnvironment(new EachOpcodeHasRun);

}  // namespace
}  // namespace gfx950emu
