// Global, scratch and scalar memory. Every access is checked against the registered buffers; atomics are the host's, so
// that workgroups may run on several threads.
#include <atomic>

#include "operands.h"
#include "operations.h"

namespace gfx950emu {
namespace {

// Operand `base` is "off" or an SGPR pair; with a pair the vector operand is a 32-bit offset.
uint64_t GlobalAddress(const Wave& w, const Instruction& i, const Operand& vector, const Operand& base, int l) {
  const auto offset = static_cast<uint64_t>(int64_t{i.offset});
  if (base.place == Place::kOff) return Source64(w, vector, l) + offset;
  return Scalar64(w, base) + w.v[vector.index][l] + offset;
}

// The distinct 128-byte lines that a wave's access touches.
class LineCount {
 public:
  void Add(uint64_t address, uint32_t bytes) {
    for (uint64_t line = address / 128; line <= (address + bytes - 1) / 128; ++line) {
      if (line == last_) continue;
      last_ = line;
      const uint64_t slot = line % 256;
      if (seen_[slot] != line + 1) {
        seen_[slot] = line + 1;
        ++count_;
      }
    }
  }
  uint64_t count() const { return count_; }

 private:
  uint64_t last_ = ~0ull, count_ = 0;
  uint64_t seen_[256] = {};
};

// body(lane, host memory) of every lane that is on.
template <class Body>
void ForGlobal(Wave& w, const Instruction& i, const Operand& vector, const Operand& base, uint32_t bytes, bool store,
               const Body& body) {
  LineCount lines;
  uint64_t total = 0;
  for (uint64_t left = w.exec(); left != 0; left &= left - 1) {
    const int l = std::countr_zero(left);
    const uint64_t address = GlobalAddress(w, i, vector, base, l);
    lines.Add(address, bytes);
    total += bytes;
    body(l, w.Global(address, bytes, store));
  }
  (store ? w.counters->global_store_bytes : w.counters->global_load_bytes) += total;
  w.counters->global_lines += lines.count();
}

template <int kWords>
Operation Load() {
  return {[](Wave& w, const Instruction& i) {
            uint32_t value[kWords][kLanes];
            ForGlobal(w, i, i.operands[1], i.operands[2], 4 * kWords, false, [&](int l, const uint8_t* from) {
              uint32_t words[kWords];
              std::memcpy(words, from, sizeof(words));
              for (int j = 0; j < kWords; ++j) value[j][l] = words[j];
            });
            const uint64_t exec = w.exec();
            for (int j = 0; j < kWords; ++j) {
              uint32_t* to = Vector(w, i.operands[0], j);
              for (int l = 0; l < kLanes; ++l) to[l] = exec >> l & 1 ? value[j][l] : to[l];
            }
          },
          Counted::kVector, true};
}
template <int kWords>
Operation Store() {
  return {[](Wave& w, const Instruction& i) {
            ForGlobal(w, i, i.operands[0], i.operands[2], 4 * kWords, true, [&](int l, uint8_t* to) {
              uint32_t words[kWords];
              for (int j = 0; j < kWords; ++j) words[j] = Vector(w, i.operands[1], j)[l];
              std::memcpy(to, words, sizeof(words));
            });
          },
          Counted::kVector, false};
}

// T is what lies in memory; kHalf: the whole register (0), its lower (1) or its upper half (2), the rest of which
// stays.
template <class T, int kHalf>
uint32_t Merge(uint32_t old, const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  const auto wide = static_cast<uint32_t>(static_cast<int32_t>(value));
  if (kHalf == 1) return (old & 0xffff0000u) | (wide & 0xffffu);
  if (kHalf == 2) return (old & 0xffffu) | wide << 16;
  return wide;
}
template <class T, int kHalf>
Operation LoadSmall() {
  return {[](Wave& w, const Instruction& i) {
            uint32_t value[kLanes];
            const uint32_t* old = Vector(w, i.operands[0]);
            ForGlobal(w, i, i.operands[1], i.operands[2], sizeof(T), false,
                      [&](int l, const uint8_t* from) { value[l] = Merge<T, kHalf>(old[l], from); });
            const uint64_t exec = w.exec();
            uint32_t* to = Vector(w, i.operands[0]);
            for (int l = 0; l < kLanes; ++l) to[l] = exec >> l & 1 ? value[l] : to[l];
          },
          Counted::kVector, true};
}
template <int kBytes, int kShift>
Operation StoreSmall() {
  return {[](Wave& w, const Instruction& i) {
            ForGlobal(w, i, i.operands[0], i.operands[2], kBytes, true, [&](int l, uint8_t* to) {
              const uint32_t value = Vector(w, i.operands[1])[l] >> kShift;
              std::memcpy(to, &value, kBytes);
            });
          },
          Counted::kVector, false};
}

// f(old, operand) is the new value; with "sc0" the old one is returned.
template <class T, class F>
Operation Atomic(F) {
  return {[](Wave& w, const Instruction& i) {
            const size_t first = i.returns ? 1 : 0;
            constexpr bool kWide = sizeof(T) == 8;
            Lanes low{}, high{};
            const uint64_t exec = w.exec();
            ForGlobal(w, i, i.operands[first], i.operands[first + 2], sizeof(T), true, [&](int l, uint8_t* at) {
              if (reinterpret_cast<uintptr_t>(at) % sizeof(T) != 0) throw Error("unaligned atomic: " + i.text);
              uint64_t bits = Vector(w, i.operands[first + 1])[l];
              if constexpr (kWide) bits |= uint64_t{Vector(w, i.operands[first + 1], 1)[l]} << 32;
              T operand;
              std::memcpy(&operand, &bits, sizeof(T));
              std::atomic_ref<T> cell(*reinterpret_cast<T*>(at));
              T old = cell.load();
              while (!cell.compare_exchange_weak(old, F{}(old, operand))) {
              }
              uint64_t result = 0;
              std::memcpy(&result, &old, sizeof(T));
              low.lane[l] = static_cast<uint32_t>(result);
              high.lane[l] = static_cast<uint32_t>(result >> 32);
            });
            if (!i.returns) return;
            for (int word = 0; word < (kWide ? 2 : 1); ++word) {
              uint32_t* to = Vector(w, i.operands[0], word);
              for (int l = 0; l < kLanes; ++l) to[l] = exec >> l & 1 ? (word ? high : low).lane[l] : to[l];
            }
          },
          Counted::kVector, true};
}
// The operand is a pair: the new value, then the expected one.
Operation CompareAndSwap() {
  return {[](Wave& w, const Instruction& i) {
            const size_t first = i.returns ? 1 : 0;
            Lanes result{};
            ForGlobal(w, i, i.operands[first], i.operands[first + 2], 4, true, [&](int l, uint8_t* at) {
              std::atomic_ref<uint32_t> cell(*reinterpret_cast<uint32_t*>(at));
              uint32_t expected = Vector(w, i.operands[first + 1], 1)[l];
              cell.compare_exchange_strong(expected, Vector(w, i.operands[first + 1])[l]);
              result.lane[l] = expected;
            });
            if (i.returns) Commit(w, i, result);
          },
          Counted::kVector, true};
}

// Straight into LDS: lane l's words behind M0, lane after lane.
template <int kWords>
Operation LoadToLds() {
  return {[](Wave& w, const Instruction& i) {
            if (i.offset != 0) throw Error("an offset of a load to LDS: " + i.text);
            ForGlobal(w, i, i.operands[0], i.operands[1], 4 * kWords, false, [&](int l, const uint8_t* from) {
              const uint32_t at = w.s[kM0] + static_cast<uint32_t>(l) * 4 * kWords;
              std::memcpy(w.Lds(at, 4 * kWords, LdsAccess::kWrite), from, 4 * kWords);
              w.counters->lds_store_bytes += 4 * kWords;
            });
          },
          Counted::kVector, false};
}

// --- private memory: (vdst or vdata), vector address or off, scalar base or off ---

uint8_t* ScratchAt(Wave& w, const Instruction& i, const Operand& vector, const Operand& base, uint32_t bytes, int l) {
  int64_t at = i.offset;
  if (vector.place == Place::kVector) at += w.v[vector.index][l];
  if (base.place != Place::kOff) at += Scalar32(w, base);
  if (at < 0 || at + bytes > w.scratch_bytes) {
    throw Error("private memory of " + std::to_string(w.scratch_bytes) + " bytes accessed at " + std::to_string(at) +
                ": " + i.text);
  }
  w.counters->scratch_bytes += bytes;
  return w.scratch.data() + static_cast<size_t>(l) * w.scratch_bytes + at;
}
template <int kWords>
Operation ScratchLoad() {
  return {[](Wave& w, const Instruction& i) {
            uint32_t value[kWords][kLanes];
            const uint64_t exec = w.exec();
            for (int l = 0; l < kLanes; ++l) {
              if (!(exec >> l & 1)) continue;
              uint32_t words[kWords];
              std::memcpy(words, ScratchAt(w, i, i.operands[1], i.operands[2], 4 * kWords, l), sizeof(words));
              for (int j = 0; j < kWords; ++j) value[j][l] = words[j];
            }
            for (int j = 0; j < kWords; ++j) {
              uint32_t* to = Vector(w, i.operands[0], j);
              for (int l = 0; l < kLanes; ++l) to[l] = exec >> l & 1 ? value[j][l] : to[l];
            }
          },
          Counted::kVector, true};
}
template <int kWords>
Operation ScratchStore() {
  return {[](Wave& w, const Instruction& i) {
            const uint64_t exec = w.exec();
            for (int l = 0; l < kLanes; ++l) {
              if (!(exec >> l & 1)) continue;
              uint32_t words[kWords];
              for (int j = 0; j < kWords; ++j) words[j] = Vector(w, i.operands[1], j)[l];
              std::memcpy(ScratchAt(w, i, i.operands[0], i.operands[2], 4 * kWords, l), words, sizeof(words));
            }
          },
          Counted::kVector, false};
}
template <class T, int kHalf>
Operation ScratchLoadSmall() {
  return {[](Wave& w, const Instruction& i) {
            Lanes result;
            const uint64_t exec = w.exec();
            const uint32_t* old = Vector(w, i.operands[0]);
            for (int l = 0; l < kLanes; ++l) {
              if (!(exec >> l & 1)) continue;
              result.lane[l] = Merge<T, kHalf>(old[l], ScratchAt(w, i, i.operands[1], i.operands[2], sizeof(T), l));
            }
            Commit(w, i, result);
          },
          Counted::kVector, true};
}
template <int kBytes>
Operation ScratchStoreSmall() {
  return {[](Wave& w, const Instruction& i) {
            const uint64_t exec = w.exec();
            for (int l = 0; l < kLanes; ++l) {
              if (!(exec >> l & 1)) continue;
              std::memcpy(ScratchAt(w, i, i.operands[0], i.operands[2], kBytes, l), &Vector(w, i.operands[1])[l],
                          kBytes);
            }
          },
          Counted::kVector, false};
}

template <int kWords>
Operation ScalarLoad() {
  return {[](Wave& w, const Instruction& i) {
            const Operand& by = i.operands[2];
            const uint64_t address = Scalar64(w, i.operands[1]) +
                                     (by.place == Place::kScalar ? w.s[by.index] : by.wide) +
                                     static_cast<uint64_t>(int64_t{i.offset});
            uint32_t words[kWords];
            std::memcpy(words, w.Global(address & ~3ull, 4 * kWords, false), sizeof(words));
            for (int j = 0; j < kWords; ++j) w.s[i.operands[0].index + j] = words[j];
            w.counters->scalar_load_bytes += 4 * kWords;
          },
          Counted::kScalar, true};
}

}  // namespace

void AddGlobalMemory(OperationTable& table) {
  table["s_load_dword"] = ScalarLoad<1>();
  table["s_load_dwordx2"] = ScalarLoad<2>();
  table["s_load_dwordx3"] = ScalarLoad<3>();
  table["s_load_dwordx4"] = ScalarLoad<4>();
  table["s_load_dwordx8"] = ScalarLoad<8>();
  table["s_load_dwordx16"] = ScalarLoad<16>();

  table["global_load_dword"] = Load<1>();
  table["global_load_dwordx2"] = Load<2>();
  table["global_load_dwordx3"] = Load<3>();
  table["global_load_dwordx4"] = Load<4>();
  table["global_store_dword"] = Store<1>();
  table["global_store_dwordx2"] = Store<2>();
  table["global_store_dwordx3"] = Store<3>();
  table["global_store_dwordx4"] = Store<4>();
  table["global_load_ubyte"] = LoadSmall<uint8_t, 0>();
  table["global_load_sbyte"] = LoadSmall<int8_t, 0>();
  table["global_load_ushort"] = LoadSmall<uint16_t, 0>();
  table["global_load_sshort"] = LoadSmall<int16_t, 0>();
  table["global_load_ubyte_d16"] = LoadSmall<uint8_t, 1>();
  table["global_load_ubyte_d16_hi"] = LoadSmall<uint8_t, 2>();
  table["global_load_short_d16"] = LoadSmall<uint16_t, 1>();
  table["global_load_short_d16_hi"] = LoadSmall<uint16_t, 2>();
  table["global_store_byte"] = StoreSmall<1, 0>();
  table["global_store_byte_d16_hi"] = StoreSmall<1, 16>();
  table["global_store_short"] = StoreSmall<2, 0>();
  table["global_store_short_d16_hi"] = StoreSmall<2, 16>();
  table["global_load_lds_dword"] = LoadToLds<1>();
  table["global_load_lds_dwordx3"] = LoadToLds<3>();
  table["global_load_lds_dwordx4"] = LoadToLds<4>();

  table["global_atomic_add"] = Atomic<uint32_t>([](uint32_t old, uint32_t x) { return old + x; });
  table["global_atomic_sub"] = Atomic<uint32_t>([](uint32_t old, uint32_t x) { return old - x; });
  table["global_atomic_umax"] = Atomic<uint32_t>([](uint32_t old, uint32_t x) { return std::max(old, x); });
  table["global_atomic_umin"] = Atomic<uint32_t>([](uint32_t old, uint32_t x) { return std::min(old, x); });
  table["global_atomic_smax"] = Atomic<int32_t>([](int32_t old, int32_t x) { return std::max(old, x); });
  table["global_atomic_and"] = Atomic<uint32_t>([](uint32_t old, uint32_t x) { return old & x; });
  table["global_atomic_or"] = Atomic<uint32_t>([](uint32_t old, uint32_t x) { return old | x; });
  table["global_atomic_swap"] = Atomic<uint32_t>([](uint32_t, uint32_t x) { return x; });
  table["global_atomic_inc"] = Atomic<uint32_t>([](uint32_t old, uint32_t x) { return old >= x ? 0 : old + 1; });
  table["global_atomic_add_f32"] = Atomic<float>([](float old, float x) { return old + x; });
  table["global_atomic_add_x2"] = Atomic<uint64_t>([](uint64_t old, uint64_t x) { return old + x; });
  table["global_atomic_umax_x2"] = Atomic<uint64_t>([](uint64_t old, uint64_t x) { return std::max(old, x); });
  table["global_atomic_cmpswap"] = CompareAndSwap();

  table["scratch_load_dword"] = ScratchLoad<1>();
  table["scratch_load_dwordx2"] = ScratchLoad<2>();
  table["scratch_load_dwordx3"] = ScratchLoad<3>();
  table["scratch_load_dwordx4"] = ScratchLoad<4>();
  table["scratch_load_ubyte"] = ScratchLoadSmall<uint8_t, 0>();
  table["scratch_load_ushort"] = ScratchLoadSmall<uint16_t, 0>();
  table["scratch_store_dword"] = ScratchStore<1>();
  table["scratch_store_dwordx2"] = ScratchStore<2>();
  table["scratch_store_dwordx3"] = ScratchStore<3>();
  table["scratch_store_dwordx4"] = ScratchStore<4>();
  table["scratch_store_byte"] = ScratchStoreSmall<1>();
  table["scratch_store_short"] = ScratchStoreSmall<2>();
}

}  // namespace gfx950emu
