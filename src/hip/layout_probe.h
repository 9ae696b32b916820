// One matrix instruction on registers that the caller fills, to check what src/hip assumes of lanes and registers.
#pragma once

#include <hip/hip_api.h>

#include <cstdint>
#include <string_view>

namespace mxmla::hip {

enum class Instruction { kBf16Of16, kBf16Of32, kFp4Of16, kFp4Of32, kFp8Of16, kFp8Of32 };
inline constexpr Instruction kInstructions[] = {Instruction::kBf16Of16, Instruction::kBf16Of32, Instruction::kFp4Of16,
                                                Instruction::kFp4Of32,  Instruction::kFp8Of16,  Instruction::kFp8Of32};

struct Shape {
  std::string_view name;
  int n, k;          // D is (n, n); k contracted elements
  int bits;          // of an element
  int words;         // registers of an operand
  int result_words;  // n * n / 64
  bool scaled;
};
Shape ShapeOf(Instruction instruction);

// D = A x B. Memory that the device reads and writes, register after register and in it lane after lane:
// a, b (words, 64); scales_a, scales_b (64), of which byte `scale_byte` counts; out (result_words, 64).
void RunInstruction(Instruction instruction, int scale_byte, const uint32_t* a, const uint32_t* b,
                    const uint32_t* scales_a, const uint32_t* scales_b, float* out, hipStream_t stream);

}  // namespace mxmla::hip
