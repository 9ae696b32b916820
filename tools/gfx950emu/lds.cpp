// DS: a workgroup's shared memory.
#include "operands.h"
#include "operations.h"

namespace gfx950emu {
namespace {

uint32_t Offset(int32_t offset) { return static_cast<uint32_t>(offset); }

void CheckAlignment(const Instruction& i, uint32_t address, uint32_t alignment) {
  if (address % alignment != 0) throw Error("unaligned LDS access at byte " + std::to_string(address) + ": " + i.text);
}

// kCount pieces of kWords words; piece p at the lane's address + its offset, which counts pieces of kStride.
template <int kWords, int kCount, int kStride>
uint32_t PieceAddress(const Instruction& i, uint32_t base, int piece) {
  if (kCount == 1) return base + Offset(i.offset);
  return base + Offset(piece ? i.offset1 : i.offset0) * 4 * kWords * kStride;
}
template <int kWords, int kCount = 1, int kStride = 1>
Operation Read() {
  return {[](Wave& w, const Instruction& i) {
            uint32_t value[kWords * kCount][kLanes];
            const uint32_t* base = Vector(w, i.operands[1]);
            const uint64_t exec = w.exec();
            for (uint64_t left = exec; left != 0; left &= left - 1) {
              const int l = std::countr_zero(left);
              for (int piece = 0; piece < kCount; ++piece) {
                const uint32_t at = PieceAddress<kWords, kCount, kStride>(i, base[l], piece);
                CheckAlignment(i, at, 4);
                uint32_t words[kWords];
                std::memcpy(words, w.Lds(at, 4 * kWords, LdsAccess::kRead), sizeof(words));
                for (int j = 0; j < kWords; ++j) value[piece * kWords + j][l] = words[j];
              }
            }
            for (int j = 0; j < kWords * kCount; ++j) {
              uint32_t* to = Vector(w, i.operands[0], j);
              for (int l = 0; l < kLanes; ++l) to[l] = exec >> l & 1 ? value[j][l] : to[l];
            }
            w.counters->lds_load_bytes += static_cast<uint64_t>(std::popcount(exec)) * 4 * kWords * kCount;
          },
          Counted::kLds, true};
}
template <int kWords, int kCount = 1, int kStride = 1>
Operation Write() {
  return {[](Wave& w, const Instruction& i) {
            const uint32_t* base = Vector(w, i.operands[0]);
            const uint64_t exec = w.exec();
            for (uint64_t left = exec; left != 0; left &= left - 1) {
              const int l = std::countr_zero(left);
              for (int piece = 0; piece < kCount; ++piece) {
                const uint32_t at = PieceAddress<kWords, kCount, kStride>(i, base[l], piece);
                CheckAlignment(i, at, 4);
                uint32_t words[kWords];
                for (int j = 0; j < kWords; ++j) words[j] = Vector(w, i.operands[static_cast<size_t>(1 + piece)], j)[l];
                std::memcpy(w.Lds(at, 4 * kWords, LdsAccess::kWrite), words, sizeof(words));
              }
            }
            w.counters->lds_store_bytes += static_cast<uint64_t>(std::popcount(exec)) * 4 * kWords * kCount;
          },
          Counted::kLds, false};
}

template <class T, int kHalf>
Operation ReadSmall() {
  return {[](Wave& w, const Instruction& i) {
            Lanes result;
            const uint32_t* base = Vector(w, i.operands[1]);
            const uint32_t* old = Vector(w, i.operands[0]);
            const uint64_t exec = w.exec();
            for (int l = 0; l < kLanes; ++l) {
              if (!(exec >> l & 1)) continue;
              T value;
              std::memcpy(&value, w.Lds(base[l] + Offset(i.offset), sizeof(T), LdsAccess::kRead), sizeof(T));
              const auto wide = static_cast<uint32_t>(static_cast<int32_t>(value));
              result.lane[l] = kHalf == 1   ? (old[l] & 0xffff0000u) | (wide & 0xffffu)
                               : kHalf == 2 ? (old[l] & 0xffffu) | wide << 16
                                            : wide;
            }
            Commit(w, i, result);
            w.counters->lds_load_bytes += static_cast<uint64_t>(std::popcount(exec)) * sizeof(T);
          },
          Counted::kLds, true};
}
template <int kBytes, int kShift>
Operation WriteSmall() {
  return {[](Wave& w, const Instruction& i) {
            const uint32_t* base = Vector(w, i.operands[0]);
            const uint64_t exec = w.exec();
            for (int l = 0; l < kLanes; ++l) {
              if (!(exec >> l & 1)) continue;
              const uint32_t value = Vector(w, i.operands[1])[l] >> kShift;
              std::memcpy(w.Lds(base[l] + Offset(i.offset), kBytes, LdsAccess::kWrite), &value, kBytes);
            }
            w.counters->lds_store_bytes += static_cast<uint64_t>(std::popcount(exec)) * kBytes;
          },
          Counted::kLds, false};
}

// f(old, operand); kReturns: operands are (old out, address, operand), else (address, operand).
template <class T, bool kReturns, class F>
Operation Atomic(F) {
  return {[](Wave& w, const Instruction& i) {
            constexpr size_t kFirst = kReturns ? 1 : 0;
            Lanes result[2];
            const uint64_t exec = w.exec();
            for (int l = 0; l < kLanes; ++l) {
              if (!(exec >> l & 1)) continue;
              const uint32_t at = Vector(w, i.operands[kFirst])[l] + Offset(i.offset);
              CheckAlignment(i, at, sizeof(T));
              uint64_t bits = Vector(w, i.operands[kFirst + 1])[l];
              if constexpr (sizeof(T) == 8) bits |= uint64_t{Vector(w, i.operands[kFirst + 1], 1)[l]} << 32;
              T operand, old;
              std::memcpy(&operand, &bits, sizeof(T));
              uint8_t* cell = w.Lds(at, sizeof(T), LdsAccess::kAtomic);
              std::memcpy(&old, cell, sizeof(T));
              const T now = F{}(old, operand);
              std::memcpy(cell, &now, sizeof(T));
              bits = 0;
              std::memcpy(&bits, &old, sizeof(T));
              result[0].lane[l] = static_cast<uint32_t>(bits);
              result[1].lane[l] = static_cast<uint32_t>(bits >> 32);
            }
            w.counters->lds_store_bytes += static_cast<uint64_t>(std::popcount(exec)) * sizeof(T);
            if constexpr (kReturns) {
              Commit(w, i, result[0]);
              if constexpr (sizeof(T) == 8) Commit(w, i, result[1], 1);
            }
          },
          Counted::kLds, kReturns};
}
template <class T, class F>
void AddAtomic(OperationTable& table, const std::string& name, const std::string& type, F f) {
  table["ds_" + name + "_" + type] = Atomic<T, false>(f);
  table["ds_" + name + "_rtn_" + type] = Atomic<T, true>(f);
}

}  // namespace

void AddLds(OperationTable& table) {
  table["ds_read_b32"] = Read<1>();
  table["ds_read_b64"] = Read<2>();
  table["ds_read_b96"] = Read<3>();
  table["ds_read_b128"] = Read<4>();
  table["ds_read2_b32"] = Read<1, 2>();
  table["ds_read2_b64"] = Read<2, 2>();
  table["ds_read2st64_b32"] = Read<1, 2, 64>();
  table["ds_read2st64_b64"] = Read<2, 2, 64>();
  table["ds_write_b32"] = Write<1>();
  table["ds_write_b64"] = Write<2>();
  table["ds_write_b96"] = Write<3>();
  table["ds_write_b128"] = Write<4>();
  table["ds_write2_b32"] = Write<1, 2>();
  table["ds_write2_b64"] = Write<2, 2>();
  table["ds_write2st64_b32"] = Write<1, 2, 64>();
  table["ds_write2st64_b64"] = Write<2, 2, 64>();
  table["ds_read_u8"] = ReadSmall<uint8_t, 0>();
  table["ds_read_i8"] = ReadSmall<int8_t, 0>();
  table["ds_read_u16"] = ReadSmall<uint16_t, 0>();
  table["ds_read_i16"] = ReadSmall<int16_t, 0>();
  table["ds_read_u8_d16"] = ReadSmall<uint8_t, 1>();
  table["ds_read_u8_d16_hi"] = ReadSmall<uint8_t, 2>();
  table["ds_read_u16_d16"] = ReadSmall<uint16_t, 1>();
  table["ds_read_u16_d16_hi"] = ReadSmall<uint16_t, 2>();
  table["ds_write_b8"] = WriteSmall<1, 0>();
  table["ds_write_b8_d16_hi"] = WriteSmall<1, 16>();
  table["ds_write_b16"] = WriteSmall<2, 0>();
  table["ds_write_b16_d16_hi"] = WriteSmall<2, 16>();
  AddAtomic<uint32_t>(table, "add", "u32", [](uint32_t old, uint32_t x) { return old + x; });
  AddAtomic<uint32_t>(table, "sub", "u32", [](uint32_t old, uint32_t x) { return old - x; });
  AddAtomic<uint32_t>(table, "max", "u32", [](uint32_t old, uint32_t x) { return std::max(old, x); });
  AddAtomic<uint32_t>(table, "min", "u32", [](uint32_t old, uint32_t x) { return std::min(old, x); });
  AddAtomic<int32_t>(table, "max", "i32", [](int32_t old, int32_t x) { return std::max(old, x); });
  AddAtomic<int32_t>(table, "min", "i32", [](int32_t old, int32_t x) { return std::min(old, x); });
  AddAtomic<uint32_t>(table, "or", "b32", [](uint32_t old, uint32_t x) { return old | x; });
  AddAtomic<uint32_t>(table, "and", "b32", [](uint32_t old, uint32_t x) { return old & x; });
  AddAtomic<float>(table, "add", "f32", [](float old, float x) { return old + x; });
  AddAtomic<uint64_t>(table, "add", "u64", [](uint64_t old, uint64_t x) { return old + x; });
  AddAtomic<uint64_t>(table, "max", "u64", [](uint64_t old, uint64_t x) { return std::max(old, x); });
}

}  // namespace gfx950emu
