// Opcodes of memory: each width against bytes that say where they lie. Expectations follow the pseudocode of AMD's
// CDNA4 instruction set.
#include <gtest/gtest.h>

#include <cstring>

#include "error.h"
#include "lab.h"

namespace gfx950emu {
namespace {

uint8_t ByteAt(size_t i) { return static_cast<uint8_t>(i * 37 + 11); }
uint32_t BytesAt(size_t at, int bytes, bool is_signed = false) {
  uint32_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= uint32_t{ByteAt(at + static_cast<size_t>(i))} << (8 * i);
  const int shift = 32 - 8 * bytes;
  return is_signed ? static_cast<uint32_t>(static_cast<int32_t>(value << shift) >> shift) : value;
}

struct Wide {
  const char* name;
  int words, pieces, stride;  // of one piece; a second piece; how far offsets count, in pieces
};
constexpr Wide kLdsReads[] = {{"ds_read_b32", 1, 1, 1},       {"ds_read_b64", 2, 1, 1},      {"ds_read_b96", 3, 1, 1},
                              {"ds_read_b128", 4, 1, 1},      {"ds_read2_b32", 1, 2, 1},     {"ds_read2_b64", 2, 2, 1},
                              {"ds_read2st64_b32", 1, 2, 64}, {"ds_read2st64_b64", 2, 2, 64}};
constexpr Wide kLdsWrites[] = {{"ds_write_b32", 1, 1, 1},       {"ds_write_b64", 2, 1, 1},
                               {"ds_write_b96", 3, 1, 1},       {"ds_write_b128", 4, 1, 1},
                               {"ds_write2_b32", 1, 2, 1},      {"ds_write2_b64", 2, 2, 1},
                               {"ds_write2st64_b32", 1, 2, 64}, {"ds_write2st64_b64", 2, 2, 64}};
struct Small {
  const char* name;
  int bytes;
  bool is_signed;
  int half;  // 0: a whole register; 1, 2: its lower or upper half, the other stays
};
constexpr Small kLdsSmallReads[] = {{"ds_read_u8", 1, false, 0},      {"ds_read_i8", 1, true, 0},
                                    {"ds_read_u16", 2, false, 0},     {"ds_read_i16", 2, true, 0},
                                    {"ds_read_u8_d16", 1, false, 1},  {"ds_read_u8_d16_hi", 1, false, 2},
                                    {"ds_read_u16_d16", 2, false, 1}, {"ds_read_u16_d16_hi", 2, false, 2}};
constexpr Small kGlobalSmallLoads[] = {
    {"global_load_ubyte", 1, false, 0},     {"global_load_sbyte", 1, true, 0},
    {"global_load_ushort", 2, false, 0},    {"global_load_sshort", 2, true, 0},
    {"global_load_ubyte_d16", 1, false, 1}, {"global_load_ubyte_d16_hi", 1, false, 2},
    {"global_load_short_d16", 2, false, 1}, {"global_load_short_d16_hi", 2, false, 2}};
struct SmallStore {
  const char* name;
  int bytes;
  bool upper;
};
constexpr SmallStore kLdsSmallWrites[] = {{"ds_write_b8", 1, false},
                                          {"ds_write_b8_d16_hi", 1, true},
                                          {"ds_write_b16", 2, false},
                                          {"ds_write_b16_d16_hi", 2, true}};
constexpr SmallStore kGlobalSmallStores[] = {{"global_store_byte", 1, false},
                                             {"global_store_byte_d16_hi", 1, true},
                                             {"global_store_short", 2, false},
                                             {"global_store_short_d16_hi", 2, true}};

uint32_t Merged(const Small& op, uint32_t value) {
  if (op.half == 0) return value;
  return op.half == 1 ? (kUntouched & 0xffff0000u) | (value & 0xffffu) : (kUntouched & 0xffffu) | value << 16;
}

TEST(Opcode, ReadingLds) {
  for (const Wide& op : kLdsReads) {
    SCOPED_TRACE(op.name);
    Lab lab;
    for (size_t i = 0; i < lab.group().lds.size(); ++i) lab.group().lds[i] = ByteAt(i);
    lab.SetLanes(1, [](int l) { return 4 * (l % 8); });
    const int apart = 4 * op.words * op.stride;  // bytes that an offset of 1 is
    lab.Run(std::string(op.name) + " " + Registers(10, op.words * op.pieces) + ", v1 " +
            (op.pieces == 1 ? "offset:8" : "offset0:1 offset1:0"));
    for (int l = 0; l < kLanes; ++l) {
      for (int j = 0; j < op.words * op.pieces; ++j) {
        const int offset = op.pieces == 1 ? 8 : j < op.words ? apart : 0;
        EXPECT_EQ(lab.Get(10 + j, l), BytesAt(static_cast<size_t>(4 * (l % 8) + offset + j % op.words * 4), 4));
      }
    }
  }
  for (const Small& op : kLdsSmallReads) {
    SCOPED_TRACE(op.name);
    Lab lab;
    for (size_t i = 0; i < lab.group().lds.size(); ++i) lab.group().lds[i] = ByteAt(i);
    lab.SetLanes(1, [](int l) { return 2 * l; });
    lab.Run(std::string(op.name) + " v10, v1 offset:6");
    for (int l = 0; l < kLanes; ++l) {
      EXPECT_EQ(lab.Get(10, l), Merged(op, BytesAt(static_cast<size_t>(2 * l + 6), op.bytes, op.is_signed)));
    }
  }
}

TEST(Opcode, WritingLds) {
  for (const Wide& op : kLdsWrites) {
    SCOPED_TRACE(op.name);
    Lab lab;
    lab.wave().SetExec(2);  // lane 1
    lab.Set(1, 16);
    for (int j = 0; j < op.words * op.pieces; ++j) lab.Set(10 + j, BytesAt(static_cast<size_t>(4 * j), 4));
    const int apart = 4 * op.words * op.stride;
    lab.Run(std::string(op.name) + " v1, " + Registers(10, op.words) +
            (op.pieces == 1 ? " offset:8" : ", " + Registers(10 + op.words, op.words) + " offset0:1 offset1:0"));
    for (int j = 0; j < op.words * op.pieces; ++j) {
      const int offset = op.pieces == 1 ? 8 : j < op.words ? apart : 0;
      uint32_t found = 0;
      std::memcpy(&found, &lab.group().lds[static_cast<size_t>(16 + offset + j % op.words * 4)], 4);
      EXPECT_EQ(found, BytesAt(static_cast<size_t>(4 * j), 4)) << j;
    }
  }
  for (const SmallStore& op : kLdsSmallWrites) {
    SCOPED_TRACE(op.name);
    Lab lab;
    lab.wave().SetExec(2);
    lab.Set(1, 16);
    lab.Set(2, 0x11223344);
    lab.group().lds[18] = lab.group().lds[19] = lab.group().lds[20] = 0x5a;
    lab.Run(std::string(op.name) + " v1, v2 offset:2");
    EXPECT_EQ(lab.group().lds[18], op.upper ? 0x22 : 0x44);
    EXPECT_EQ(lab.group().lds[19], op.bytes == 1 ? 0x5a : op.upper ? 0x11 : 0x33);
    EXPECT_EQ(lab.group().lds[20], 0x5a);
  }
}

struct AtomicCase {
  const char* name;  // behind ds_ or global_atomic_
  const char* type;  // of LDS
  uint64_t old, operand, now;
};
constexpr AtomicCase kLdsAtomics[] = {{"add", "u32", 5, 3, 8},
                                      {"sub", "u32", 5, 3, 2},
                                      {"max", "u32", 5, 0xffffffff, 0xffffffff},
                                      {"min", "u32", 5, 0xffffffff, 5},
                                      {"max", "i32", 5, 0xffffffff, 5},
                                      {"min", "i32", 5, 0xffffffff, 0xffffffff},
                                      {"or", "b32", 5, 3, 7},
                                      {"and", "b32", 5, 3, 1},
                                      {"add", "f32", F(1.5f), F(2.0f), F(3.5f)},
                                      {"add", "u64", 0xffffffff, 1, 0x1'00000000},
                                      {"max", "u64", 5, 0x1'00000000, 0x1'00000000}};
constexpr AtomicCase kGlobalAtomics[] = {{"add", "", 5, 3, 8},
                                         {"sub", "", 5, 3, 2},
                                         {"umax", "", 5, 0xffffffff, 0xffffffff},
                                         {"umin", "", 5, 0xffffffff, 5},
                                         {"smax", "", 5, 0xffffffff, 5},
                                         {"and", "", 5, 3, 1},
                                         {"or", "", 5, 3, 7},
                                         {"swap", "", 5, 3, 3},
                                         {"inc", "", 5, 5, 0},
                                         {"add_f32", "", F(1.5f), F(2.0f), F(3.5f)},
                                         {"add_x2", "", 0xffffffff, 1, 0x1'00000000},
                                         {"umax_x2", "", 5, 0x1'00000000, 0x1'00000000}};

TEST(Opcode, AtomicsOfLds) {
  for (const AtomicCase& c : kLdsAtomics) {
    const bool wide = std::string(c.type) == "u64";
    for (const bool returns : {false, true}) {
      const std::string name = std::string("ds_") + c.name + (returns ? "_rtn_" : "_") + c.type;
      SCOPED_TRACE(name);
      LabWith lab(In(c.operand));
      lab.wave().SetExec(2);
      lab.Set(8, 16);
      std::memcpy(&lab.group().lds[16], &c.old, wide ? 8 : 4);
      lab.Run(name + (returns ? (wide ? " v[0:1]," : " v0,") : "") + " v8, " + (wide ? "v[2:3]" : "v2"));
      uint64_t now = 0;
      std::memcpy(&now, &lab.group().lds[16], wide ? 8 : 4);
      EXPECT_EQ(now, c.now);
      EXPECT_EQ(lab.Get(0, 1), returns ? static_cast<uint32_t>(c.old) : kUntouched);
    }
  }
}

// 256 bytes of global memory at s[2:3].
class Global {
 public:
  Global() {
    for (size_t i = 0; i < sizeof(bytes); ++i) bytes[i] = ByteAt(i);
    lab.memory().Register(bytes, sizeof(bytes), true);
    const auto address = reinterpret_cast<uint64_t>(bytes);
    lab.wave().s[2] = static_cast<uint32_t>(address);
    lab.wave().s[3] = static_cast<uint32_t>(address >> 32);
  }

  Lab lab;
  alignas(16) uint8_t bytes[1280];
};

TEST(Opcode, GlobalMemory) {
  for (int words = 1; words <= 4; ++words) {
    const std::string width = words == 1 ? "dword" : "dwordx" + std::to_string(words);
    SCOPED_TRACE(width);
    Global g;
    g.lab.SetLanes(1, [](int l) { return 16 * l; });
    g.lab.Run("global_load_" + width + " " + Registers(10, words) + ", v1, s[2:3] offset:8");
    for (int l = 0; l < kLanes; ++l) {
      for (int j = 0; j < words; ++j) {
        ASSERT_EQ(g.lab.Get(10 + j, l), BytesAt(static_cast<size_t>(16 * l + 8 + 4 * j), 4));
      }
    }
    g.lab.wave().SetExec(2);
    for (int j = 0; j < words; ++j) g.lab.Set(10 + j, static_cast<uint32_t>(j + 1));
    g.lab.Run("global_store_" + width + " v1, " + Registers(10, words) + ", s[2:3] offset:16");
    for (int j = 0; j < words; ++j) EXPECT_EQ(g.bytes[32 + 4 * j], j + 1);
    EXPECT_EQ(g.bytes[32 + 4 * words], ByteAt(static_cast<size_t>(32 + 4 * words)));
  }
  for (const Small& op : kGlobalSmallLoads) {
    SCOPED_TRACE(op.name);
    Global g;
    g.lab.SetLanes(1, [](int l) { return 2 * l; });
    g.lab.Run(std::string(op.name) + " v10, v1, s[2:3] offset:6");
    for (int l = 0; l < kLanes; ++l) {
      ASSERT_EQ(g.lab.Get(10, l), Merged(op, BytesAt(static_cast<size_t>(2 * l + 6), op.bytes, op.is_signed)));
    }
  }
  for (const SmallStore& op : kGlobalSmallStores) {
    SCOPED_TRACE(op.name);
    Global g;
    g.lab.wave().SetExec(2);
    g.lab.Set(1, 16);
    g.lab.Set(4, 0x11223344);
    g.bytes[17] = g.bytes[18] = 0x5a;
    g.lab.Run(std::string(op.name) + " v1, v4, s[2:3]");
    EXPECT_EQ(g.bytes[16], op.upper ? 0x22 : 0x44);
    EXPECT_EQ(g.bytes[17], op.bytes == 1 ? 0x5a : op.upper ? 0x11 : 0x33);
    EXPECT_EQ(g.bytes[18], 0x5a);
  }
  for (const int words : {1, 3, 4}) {
    const std::string width = words == 1 ? "dword" : "dwordx" + std::to_string(words);
    SCOPED_TRACE(width);
    Global g;
    g.lab.wave().SetExec(6);  // lanes 1 and 2
    g.lab.wave().s[kM0] = 64;
    g.lab.SetLanes(1, [](int l) { return 32 * l; });
    g.lab.Run("global_load_lds_" + width + " v1, s[2:3]");
    for (int j = 0; j < 4 * words; ++j) {
      EXPECT_EQ(g.lab.group().lds[static_cast<size_t>(64 + 4 * words + j)], ByteAt(static_cast<size_t>(32 + j)));
      EXPECT_EQ(g.lab.group().lds[static_cast<size_t>(64 + 8 * words + j)], ByteAt(static_cast<size_t>(64 + j)));
    }
  }
}

TEST(Opcode, AtomicsOfGlobalMemory) {
  for (const AtomicCase& c : kGlobalAtomics) {
    const std::string name(c.name);
    const bool wide = name.ends_with("_x2");
    for (const bool returns : {false, true}) {
      SCOPED_TRACE(name);
      Global g;
      g.lab.wave().SetExec(2);
      g.lab.Set(1, 16);
      g.lab.Set(4, static_cast<uint32_t>(c.operand));
      g.lab.Set(5, static_cast<uint32_t>(c.operand >> 32));
      std::memcpy(g.bytes + 16, &c.old, wide ? 8 : 4);
      g.lab.Run("global_atomic_" + name + (returns ? (wide ? " v[8:9]," : " v8,") : "") + " v1, " +
                (wide ? "v[4:5]" : "v4") + ", s[2:3]" + (returns ? " sc0" : ""));
      uint64_t now = 0;
      std::memcpy(&now, g.bytes + 16, wide ? 8 : 4);
      EXPECT_EQ(now, c.now);
      if (returns) {
        EXPECT_EQ(g.lab.Get(8, 1), static_cast<uint32_t>(c.old));
      }
    }
  }
  for (const uint32_t expected : {5u, 6u}) {  // what is there, and what is not
    Global g;
    g.lab.wave().SetExec(2);
    g.lab.Set(1, 16);
    g.lab.Set(4, 9);
    g.lab.Set(5, expected);
    const uint32_t old = 5;
    std::memcpy(g.bytes + 16, &old, 4);
    g.lab.Run("global_atomic_cmpswap v8, v1, v[4:5], s[2:3] sc0");
    uint32_t now = 0;
    std::memcpy(&now, g.bytes + 16, 4);
    EXPECT_EQ(now, expected == 5 ? 9u : 5u);
    EXPECT_EQ(g.lab.Get(8, 1), 5u);
  }
}

TEST(Opcode, ScalarLoads) {
  for (const int words : {1, 2, 3, 4, 8, 16}) {
    Global g;
    const std::string width =
        words == 1 ? "dword s8" : "dwordx" + std::to_string(words) + " s[8:" + std::to_string(7 + words) + "]";
    g.lab.Run("s_load_" + width + ", s[2:3], 0x8");
    for (int j = 0; j < words; ++j) EXPECT_EQ(g.lab.s(8 + j), BytesAt(static_cast<size_t>(8 + 4 * j), 4)) << width;
  }
}

TEST(Opcode, PrivateMemory) {
  Lab lab;
  lab.wave().scratch_bytes = 64;
  lab.wave().scratch.resize(64 * kLanes);
  for (int words = 1; words <= 4; ++words) {
    const std::string width = words == 1 ? "dword" : "dwordx" + std::to_string(words);
    for (int j = 0; j < words; ++j) lab.SetLanes(10 + j, [&](int l) { return 1000 * words + 10 * l + j; });
    lab.Run("scratch_store_" + width + " off, " + Registers(10, words) + ", off offset:8");
    lab.Run("scratch_load_" + width + " " + Registers(20, words) + ", off, off offset:8");
    for (int j = 0; j < words; ++j) EXPECT_EQ(lab.Get(20 + j, 9), static_cast<uint32_t>(1000 * words + 90 + j));
  }
  lab.Set(10, 0x11223344);
  lab.Run("scratch_store_byte off, v10, off offset:1");
  lab.Run("scratch_store_short off, v10, off offset:2");
  lab.Run("scratch_load_ubyte v20, off, off offset:1");
  EXPECT_EQ(lab.Get(20, 3), 0x44u);
  lab.Run("scratch_load_ushort v20, off, off offset:2");
  EXPECT_EQ(lab.Get(20, 3), 0x3344u);
  EXPECT_THROW(lab.Run("scratch_load_dword v20, off, off offset:62"), Error);
}

}  // namespace
}  // namespace gfx950emu
