#include "disassembly.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "counters.h"
#include "error.h"
#include "operations.h"

namespace gfx950emu {
namespace {

#ifndef GFX950EMU_OBJDUMP
#define GFX950EMU_OBJDUMP "llvm-objdump-22"
#endif

// --- running the disassembler ---

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::vector<uint8_t>& content) {
    const char* folder = std::getenv("TMPDIR");
    path_ = fmt::format("{}/gfx950emu-XXXXXX", folder ? folder : "/tmp");
    const int file = mkstemp(path_.data());
    if (file < 0) throw Error("no temporary file can be made at " + path_);
    size_t done = 0;
    while (done < content.size()) {
      const ssize_t written = write(file, content.data() + done, content.size() - done);
      if (written <= 0) break;
      done += static_cast<size_t>(written);
    }
    close(file);
    if (done < content.size()) throw Error("a temporary file cannot be written: " + path_);
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string Output(std::vector<std::string> command) {
  int ends[2];
  if (pipe(ends) != 0) throw Error("no pipe");
  const pid_t child = fork();
  if (child < 0) throw Error("no process for " + command[0]);
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    std::vector<char*> arguments;
    for (std::string& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  close(ends[1]);
  std::string text;
  char buffer[65536];
  for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw Error(command[0] + " failed; it is Debian's llvm-22 that the emulator decodes with");
  }
  return text;
}

// --- parsing ---

bool ParseNumber(std::string_view text, Operand* o) {
  if (text.empty()) return false;
  const std::string copy(text);
  char* end = nullptr;
  const bool hex = copy.find("0x") != std::string::npos;
  const bool whole = copy.find_first_not_of("0123456789-") == std::string::npos;
  if (hex || whole) {
    const long long value = std::strtoll(copy.c_str(), &end, 0);
    if (*end) return false;
    o->place = Place::kConstant;
    o->bits = static_cast<uint32_t>(value);
    // A literal of a 64-bit operand is zero-extended; for float64 it is the high half.
    const bool literal = hex || value > 64 || value < -16;
    o->wide = literal ? o->bits : static_cast<uint64_t>(value);
    const uint64_t real = literal ? static_cast<uint64_t>(o->bits) << 32 : o->wide;
    std::memcpy(&o->real, &real, sizeof(real));
    return true;
  }
  const double value = std::strtod(copy.c_str(), &end);
  if (*end) return false;
  o->place = Place::kConstant;
  o->is_real = true;
  o->real = value;
  const auto single = static_cast<float>(value);
  std::memcpy(&o->bits, &single, sizeof(single));
  std::memcpy(&o->wide, &value, sizeof(value));
  return true;
}

bool ParseRegister(std::string_view text, Operand* o) {
  static const std::map<std::string_view, std::pair<int, int>> named = {
      {"vcc", {kVcc, 2}},   {"vcc_lo", {kVcc, 1}},   {"vcc_hi", {kVcc + 1, 1}},   {"m0", {kM0, 1}},
      {"exec", {kExec, 2}}, {"exec_lo", {kExec, 1}}, {"exec_hi", {kExec + 1, 1}},
  };
  if (const auto found = named.find(text); found != named.end()) {
    o->place = Place::kScalar;
    o->index = static_cast<uint16_t>(found->second.first);
    o->count = static_cast<uint16_t>(found->second.second);
    return true;
  }
  if (text.size() < 2 || (text[0] != 'v' && text[0] != 'a' && text[0] != 's')) return false;
  int first = 0, last = 0;
  const std::string rest(text.substr(1));
  if (std::sscanf(rest.c_str(), "[%d:%d]", &first, &last) != 2) {
    if (rest.find_first_not_of("0123456789") != std::string::npos) return false;
    first = last = std::atoi(rest.c_str());
  }
  o->place = text[0] == 's' ? Place::kScalar : Place::kVector;
  o->index = static_cast<uint16_t>(first + (text[0] == 'a' ? 256 : 0));
  o->count = static_cast<uint16_t>(last - first + 1);
  return true;
}

Operand ParseOperand(std::string_view text) {
  Operand o;
  const auto strip = [&](std::string_view prefix, size_t suffix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    text.remove_suffix(suffix);
    return true;
  };
  o.sign_extend = strip("sext(", 1);
  if (ParseNumber(text, &o)) return o;
  if (strip("neg(", 1) || strip("-", 0)) o.negate = true;
  if (strip("|", 1)) o.absolute = true;
  if (ParseNumber(text, &o) || ParseRegister(text, &o)) return o;
  if (text == "off" || text == "null") {
    o.place = Place::kOff;
    o.count = 0;
  } else if (text == "scc" || text == "src_scc") {
    o.place = Place::kScc;
  }
  return o;
}

// Splits at blanks outside of brackets, parentheses and quotes.
std::vector<std::string_view> Words(std::string_view text) {
  std::vector<std::string_view> words;
  int depth = 0;
  size_t begin = 0;
  for (size_t at = 0; at <= text.size(); ++at) {
    const char c = at < text.size() ? text[at] : ' ';
    if (c == '[' || c == '(') ++depth;
    if (c == ']' || c == ')') --depth;
    if ((c == ' ' || c == '\t') && depth == 0) {
      if (at > begin) words.push_back(text.substr(begin, at - begin));
      begin = at + 1;
    }
  }
  return words;
}

uint8_t BitList(std::string_view text) {
  uint8_t bits = 0;
  int index = 0;
  for (const char c : text) {
    if (c == '0' || c == '1') bits |= static_cast<uint8_t>((c - '0') << index++);
  }
  return bits;
}

int Number(std::string_view text) { return static_cast<int>(std::strtol(std::string(text).c_str(), nullptr, 0)); }

Part ParsePart(std::string_view text) {
  if (text.starts_with("BYTE_")) return static_cast<Part>(text[5] - '0');
  if (text.starts_with("WORD_")) return static_cast<Part>(4 + text[5] - '0');
  return Part::kAll;
}

// The lane that lane l reads, by the name of a DPP control; false when it is none.
bool ParseDpp(std::string_view key, std::string_view value, Instruction* i) {
  int quad[4] = {};
  const int n = Number(value);
  if (key == "quad_perm") std::sscanf(std::string(value).c_str(), "[%d,%d,%d,%d]", quad, quad + 1, quad + 2, quad + 3);
  for (int l = 0; l < kLanes; ++l) {
    const int row = l & ~15, in_row = l & 15;
    int from = -1;
    if (key == "quad_perm") {
      from = (l & ~3) | quad[l & 3];
    } else if (key == "row_shl") {
      from = in_row + n < 16 ? l + n : -1;
    } else if (key == "row_shr") {
      from = in_row >= n ? l - n : -1;
    } else if (key == "row_ror") {
      from = row + ((in_row - n) & 15);
    } else if (key == "row_mirror") {
      from = row + 15 - in_row;
    } else if (key == "row_half_mirror") {
      from = (l & ~7) | (7 - (l & 7));
    } else if (key == "row_bcast") {
      from = n == 15 ? (l < 16 ? -1 : row - 1) : (l < 32 ? -1 : 31);
    } else if (key == "row_newbcast") {
      from = row + n;
    } else if (key == "wave_shl") {
      from = l + 1 < kLanes ? l + 1 : -1;
    } else if (key == "wave_shr") {
      from = l - 1;
    } else if (key == "wave_rol") {
      from = (l + 1) & 63;
    } else if (key == "wave_ror") {
      from = (l - 1) & 63;
    } else {
      return false;
    }
    i->from_lane[static_cast<size_t>(l)] = static_cast<int8_t>(from);
  }
  return true;
}

// The lane that lane l reads by ds_swizzle's offset, a number or its spelling.
void ParseSwizzle(std::string_view value, Instruction* i) {
  std::array<int, 4> quad{};
  bool by_quad = false;
  int and_mask = 31, or_mask = 0, xor_mask = 0;
  if (value.starts_with("swizzle(QUAD_PERM")) {
    by_quad = std::sscanf(std::string(value).c_str(), "swizzle(QUAD_PERM,%d,%d,%d,%d", &quad[0], &quad[1], &quad[2],
                          &quad[3]) == 4;
    if (!by_quad) throw Error("a swizzle that is not modelled: " + i->text);
  } else if (value.starts_with("swizzle(SWAP,")) {
    xor_mask = Number(value.substr(13));
  } else if (value.starts_with("swizzle(BITMASK_PERM")) {
    and_mask = 0;
    const size_t quote = value.find('"');
    for (int bit = 0; bit < 5; ++bit) {
      const char c = value.at(quote + 1 + static_cast<size_t>(bit));
      const int mask = 16 >> bit;
      if (c == '1') or_mask |= mask;
      if (c == 'p' || c == 'i') and_mask |= mask;
      if (c == 'i') xor_mask |= mask;
    }
  } else if (value.starts_with("swizzle(")) {
    throw Error("a swizzle that is not modelled: " + i->text);
  } else {
    const int bits = Number(value);
    if (bits & 0x8000) {
      by_quad = true;
      for (int lane = 0; lane < 4; ++lane) quad[static_cast<size_t>(lane)] = bits >> (2 * lane) & 3;
    }
    and_mask = bits & 31;
    or_mask = bits >> 5 & 31;
    xor_mask = bits >> 10 & 31;
  }
  for (int l = 0; l < kLanes; ++l) {
    const int from = by_quad ? (l & ~3) | quad[static_cast<size_t>(l & 3)]
                             : (l & 32) | ((((l & 31) & and_mask) | or_mask) ^ xor_mask);
    i->from_lane[static_cast<size_t>(l)] = static_cast<int8_t>(from);
  }
}

void ParseModifier(std::string_view key, std::string_view value, Instruction* i) {
  if (key == "offset") {
    if (i->name == "ds_swizzle_b32") return ParseSwizzle(value, i);
    i->offset = Number(value);
  } else if (key == "offset0") {
    i->offset0 = Number(value);
  } else if (key == "offset1") {
    i->offset1 = Number(value);
  } else if (key == "op_sel") {
    i->op_sel = BitList(value);
  } else if (key == "op_sel_hi") {
    i->op_sel_hi = BitList(value);
  } else if (key == "neg_lo") {
    i->neg_lo = BitList(value);
  } else if (key == "neg_hi") {
    i->neg_hi = BitList(value);
  } else if (key == "clamp") {
    i->clamp = true;
  } else if (key == "mul") {
    i->output_scale = Number(value) == 2 ? 1 : 2;
  } else if (key == "div") {
    i->output_scale = 3;
  } else if (key == "cbsz") {
    i->cbsz = static_cast<uint8_t>(Number(value));
  } else if (key == "blgp") {
    i->blgp = static_cast<uint8_t>(Number(value));
  } else if (key == "bitop3") {
    i->bitop3 = static_cast<uint8_t>(Number(value));
  } else if (key == "row_mask" || key == "bank_mask") {
    const int mask = Number(value);
    for (int l = 0; l < kLanes; ++l) {
      if (!(mask >> (key == "row_mask" ? l / 16 : l / 4 % 4) & 1)) i->dpp_lanes &= ~(1ull << l);
    }
  } else if (key == "bound_ctrl") {
    i->bound_control = true;
  } else if (key == "dst_sel") {
    i->destination_part = ParsePart(value);
  } else if (key == "dst_unused") {
    if (value == "UNUSED_SEXT") throw Error("dst_unused:UNUSED_SEXT is not modelled: " + i->text);
    i->preserve = value == "UNUSED_PRESERVE";
  } else if (key == "src0_sel" || key == "src1_sel") {
    i->operands.at(key == "src0_sel" ? 1 : 2).part = ParsePart(value);
  } else if (key == "sc0") {
    i->returns = true;
  } else if (key == "sc1" || key == "nt") {  // caches
  } else if (!ParseDpp(key, value, i)) {
    throw Error(fmt::format("a modifier that is not modelled, {}: {}", key, i->text));
  }
}

// "vmcnt(3) lgkmcnt(0)"
void ParseWait(std::string_view text, Instruction* i) {
  for (const std::string_view word : Words(text)) {
    const size_t open = word.find('(');
    if (open == std::string_view::npos) throw Error("a wait that cannot be read: " + i->text);
    const int count = Number(word.substr(open + 1));
    if (word.starts_with("vmcnt")) i->wait_vector = count;
    if (word.starts_with("lgkmcnt")) i->wait_lds = count;
  }
}

bool IsFlag(std::string_view word) {
  return word == "sc0" || word == "sc1" || word == "nt" || word == "clamp" || word == "row_mirror" ||
         word == "row_half_mirror";
}

}  // namespace

Instruction ParseInstruction(std::string_view text) {
  Instruction i;
  i.text = text;
  const size_t blank = text.find(' ');
  i.name = text.substr(0, blank);
  const std::string_view rest = blank == std::string_view::npos ? std::string_view() : text.substr(blank + 1);
  for (const std::string_view suffix : {"_e32", "_e64", "_dpp", "_sdwa"}) {
    if (!i.name.ends_with(suffix)) continue;
    i.dpp = suffix == "_dpp";
    i.sdwa = suffix == "_sdwa";
    i.name.resize(i.name.size() - suffix.size());
    break;
  }
  // What the text leaves out.
  if (i.name.starts_with("v_pk_") || i.name.starts_with("v_mfma_scale_")) i.op_sel_hi = 7;
  if (i.name == "s_waitcnt") {
    ParseWait(rest, &i);
  } else {
    std::vector<std::string_view> modifiers;
    for (std::string_view word : Words(rest)) {
      if (word.ends_with(',')) word.remove_suffix(1);
      int depth = 0;
      bool named = false;
      for (const char c : word) {
        depth += c == '[' || c == '(' ? 1 : c == ']' || c == ')' ? -1 : 0;
        named = named || (c == ':' && depth == 0);
      }
      if (named || IsFlag(word)) {
        modifiers.push_back(word);
      } else {
        i.operands.push_back(ParseOperand(word));
      }
    }
    for (const std::string_view word : modifiers) {
      const size_t colon = word.find(':');
      ParseModifier(word.substr(0, colon), colon == std::string_view::npos ? "" : word.substr(colon + 1), &i);
    }
    // Without an offset a swizzle is that of offset 0: every lane of a half reads its lane 0.
    if (i.name == "ds_swizzle_b32" && rest.find("offset") == std::string_view::npos) ParseSwizzle("0", &i);
  }
  i.opcode = OpcodeIndex(i.name);
  if (const Operation* operation = FindOperation(i.name)) {
    i.run = operation->run;
    i.counted = operation->counted;
    i.loads = operation->loads && (!i.name.starts_with("global_atomic") || i.returns);
  } else {
    i.run = [](Wave&, const Instruction& self) { throw Error("unknown instruction: " + self.text); };
  }
  if (std::ranges::any_of(i.operands, [](const Operand& o) { return o.place == Place::kText; })) {
    i.run = [](Wave&, const Instruction& self) { throw Error("an operand that cannot be read: " + self.text); };
  }
  return i;
}

std::deque<Instruction> Disassemble(const std::vector<uint8_t>& elf, uint64_t begin, uint64_t end) {
  const TemporaryFile file(elf);
  const std::string text = Output({GFX950EMU_OBJDUMP, "-d", fmt::format("--start-address={:#x}", begin),
                                   fmt::format("--stop-address={:#x}", end), file.path()});
  std::deque<Instruction> code;
  std::string_view left = text;
  while (!left.empty()) {
    const std::string_view line = left.substr(0, left.find('\n'));
    left.remove_prefix(std::min(left.size(), line.size() + 1));
    // "\tv_mov_b32_e32 v0, 1      // 000000001A00: 7E000281 <name+0x..>"
    const size_t comment = line.rfind("//");
    if (line.empty() || line[0] != '\t' || comment == std::string_view::npos) continue;
    std::string_view body = line.substr(1, comment - 1);
    while (!body.empty() && std::isspace(static_cast<unsigned char>(body.back()))) body.remove_suffix(1);
    const std::string note(line.substr(comment + 2));
    const size_t colon = note.find(':');
    if (colon == std::string::npos) throw Error("a line of the disassembler that cannot be read: " + std::string(line));
    Instruction i = ParseInstruction(body);
    i.address = std::strtoull(note.c_str(), nullptr, 16);
    const std::string encoding = note.substr(colon + 1, note.find('<') - colon - 1);
    i.bytes = static_cast<uint32_t>(4 * Words(encoding).size());
    code.push_back(std::move(i));
  }
  if (code.empty()) throw Error("a kernel without instructions");
  return code;
}

}  // namespace gfx950emu
