// Data from other lanes: permutes and single lanes. (DPP is a modifier of vector operations.)
#include "operands.h"
#include "operations.h"

namespace gfx950emu {

void AddCrossLane(OperationTable& table) {
  table["v_readfirstlane_b32"] = {[](Wave& w, const Instruction& i) {
    Lanes buffer;
    const uint32_t* a = Source(w, i, 1, buffer);
    SetScalar32(w, i.operands[0], a[w.exec() ? std::countr_zero(w.exec()) : 0]);
  }};
  table["v_readlane_b32"] = {[](Wave& w, const Instruction& i) {
    SetScalar32(w, i.operands[0], Vector(w, i.operands[1])[Scalar32(w, i.operands[2]) & 63]);
  }};
  table["v_writelane_b32"] = {[](Wave& w, const Instruction& i) {
    Vector(w, i.operands[0])[Scalar32(w, i.operands[2]) & 63] = Scalar32(w, i.operands[1]);
  }};
  // Lanes 32..63 of the first with lanes 0..31 of the second.
  table["v_permlane32_swap_b32"] = {[](Wave& w, const Instruction& i) {
    uint32_t* a = Vector(w, i.operands[0]);
    uint32_t* b = Vector(w, i.operands[1]);
    std::swap_ranges(a + 32, a + 64, b);
  }};
  // Rows of 16 lanes: 1 with 0, and 3 with 2.
  table["v_permlane16_swap_b32"] = {[](Wave& w, const Instruction& i) {
    uint32_t* a = Vector(w, i.operands[0]);
    uint32_t* b = Vector(w, i.operands[1]);
    std::swap_ranges(a + 16, a + 32, b);
    std::swap_ranges(a + 48, a + 64, b + 32);
  }};
  // Every lane says whose value it wants; those that are off give 0.
  table["ds_bpermute_b32"] = {[](Wave& w, const Instruction& i) {
                                const uint32_t* wanted = Vector(w, i.operands[1]);
                                const uint32_t* value = Vector(w, i.operands[2]);
                                const uint64_t exec = w.exec();
                                Lanes result;
                                for (int l = 0; l < kLanes; ++l) {
                                  const uint32_t lane = (wanted[l] + static_cast<uint32_t>(i.offset)) >> 2 & 63;
                                  result.lane[l] = exec >> lane & 1 ? value[lane] : 0;
                                }
                                Commit(w, i, result);
                              },
                              Counted::kLds, true};
  // Every lane says who gets its value; the highest lane wins.
  table["ds_permute_b32"] = {[](Wave& w, const Instruction& i) {
                               const uint32_t* to = Vector(w, i.operands[1]);
                               const uint32_t* value = Vector(w, i.operands[2]);
                               const uint64_t exec = w.exec();
                               Lanes result{};
                               for (int l = 0; l < kLanes; ++l) {
                                 if (exec >> l & 1)
                                   result.lane[(to[l] + static_cast<uint32_t>(i.offset)) >> 2 & 63] = value[l];
                               }
                               Commit(w, i, result);
                             },
                             Counted::kLds, true};
  table["ds_swizzle_b32"] = {[](Wave& w, const Instruction& i) {
                               const uint32_t* value = Vector(w, i.operands[1]);
                               const uint64_t exec = w.exec();
                               Lanes result;
                               for (int l = 0; l < kLanes; ++l) {
                                 const int lane = i.from_lane[static_cast<size_t>(l)];
                                 result.lane[l] = exec >> lane & 1 ? value[lane] : 0;
                               }
                               Commit(w, i, result);
                             },
                             Counted::kLds, true};
}

}  // namespace gfx950emu
