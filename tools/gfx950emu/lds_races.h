// A race detector for a workgroup's LDS. Between two barriers a byte may be written by one wave, which alone may read
// it then, or be read by any number. Atomics of several waves on one word are no race among themselves.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gfx950emu {

enum class LdsAccess { kRead, kWrite, kAtomic };

class LdsRaces {
 public:
  explicit LdsRaces(uint32_t bytes) : words_((bytes + 3) / 4) {}

  // All waves passed a barrier, or another workgroup begins.
  void NextEpoch() { ++epoch_; }
  // [address, address + bytes) lies within LDS. Returns what it collides with, or nothing.
  std::string Touch(int wave, uint32_t address, uint32_t bytes, LdsAccess access) {
    std::string collision;
    for (uint32_t at = address; at < address + bytes;) {
      const uint32_t first = at % 4;
      const uint32_t count = std::min(4 - first, address + bytes - at);
      const uint8_t mask = static_cast<uint8_t>(((1u << count) - 1) << first);
      if (!TouchWord(words_[at / 4], wave, mask, access)) return Describe(at, wave, access);
      at += count;
    }
    return collision;
  }

 private:
  struct Word {
    uint32_t epoch = 0;
    uint16_t readers = 0;    // a bit for each wave
    uint8_t writer[4] = {};  // of each byte: the wave + 1, or kAtomics
    uint8_t read_bytes = 0;  // a bit for each byte
  };
  static constexpr uint8_t kAtomics = 0xff;

  bool TouchWord(Word& word, int wave, uint8_t mask, LdsAccess access) const {
    if (word.epoch != epoch_) {
      word = {};
      word.epoch = epoch_;
    }
    const auto own = static_cast<uint16_t>(1u << wave);
    const auto code = access == LdsAccess::kAtomic ? kAtomics : static_cast<uint8_t>(wave + 1);
    for (int byte = 0; byte < 4; ++byte) {
      if (!(mask >> byte & 1)) continue;
      if (word.writer[byte] != 0 && word.writer[byte] != code) return false;
      if (access != LdsAccess::kRead) {
        if ((word.readers & ~own) != 0 && (word.read_bytes >> byte & 1)) return false;
        word.writer[byte] = code;
      }
    }
    if (access == LdsAccess::kRead) {
      word.readers |= own;
      word.read_bytes |= mask;
    }
    return true;
  }
  std::string Describe(uint32_t address, int wave, LdsAccess access) const;

  std::vector<Word> words_;
  uint32_t epoch_ = 1;
};

}  // namespace gfx950emu
