#include "counters.h"

#include <fmt/format.h>

#include <mutex>
#include <numeric>
#include <unordered_map>

namespace gfx950emu {
namespace {

std::mutex names_mutex;
std::vector<std::string>& Names() {
  static std::vector<std::string> names;
  return names;
}

}  // namespace

uint32_t OpcodeIndex(std::string_view name) {
  static std::unordered_map<std::string, uint32_t> indices;
  const std::lock_guard lock(names_mutex);
  const auto [at, added] = indices.try_emplace(std::string(name), static_cast<uint32_t>(Names().size()));
  if (added) Names().emplace_back(name);
  return at->second;
}

std::string OpcodeName(uint32_t index) {
  const std::lock_guard lock(names_mutex);
  return Names().at(index);
}

void Counters::Add(const Counters& other) {
  if (by_opcode.size() < other.by_opcode.size()) by_opcode.resize(other.by_opcode.size());
  for (size_t i = 0; i < other.by_opcode.size(); ++i) by_opcode[i] += other.by_opcode[i];
  matrix += other.matrix;
  global_load_bytes += other.global_load_bytes;
  global_store_bytes += other.global_store_bytes;
  scalar_load_bytes += other.scalar_load_bytes;
  global_lines += other.global_lines;
  lds_load_bytes += other.lds_load_bytes;
  lds_store_bytes += other.lds_store_bytes;
  scratch_bytes += other.scratch_bytes;
  barriers += other.barriers;
  waves += other.waves;
  workgroups += other.workgroups;
  launches += other.launches;
}

uint64_t Counters::instructions() const { return std::accumulate(by_opcode.begin(), by_opcode.end(), uint64_t{0}); }

double Counters::coalescing() const {
  if (global_lines == 0) return 0;
  return static_cast<double>(global_load_bytes + global_store_bytes) / (128.0 * static_cast<double>(global_lines));
}

std::map<std::string, uint64_t> Counters::OpcodeCounts() const {
  std::map<std::string, uint64_t> counts;
  for (size_t i = 0; i < by_opcode.size(); ++i) {
    if (by_opcode[i] > 0) counts[OpcodeName(static_cast<uint32_t>(i))] += by_opcode[i];
  }
  return counts;
}

std::string Counters::Json() const {
  return fmt::format(
      R"({{"launches": {}, "workgroups": {}, "waves": {}, "instructions": {}, "mfma": {}, "barriers": {}, )"
      R"("global_load_bytes": {}, "global_store_bytes": {}, "scalar_load_bytes": {}, "lds_load_bytes": {}, )"
      R"("lds_store_bytes": {}, "scratch_bytes": {}, "coalescing": {:.3f}}})",
      launches, workgroups, waves, instructions(), matrix, barriers, global_load_bytes, global_store_bytes,
      scalar_load_bytes, lds_load_bytes, lds_store_bytes, scratch_bytes, coalescing());
}

}  // namespace gfx950emu
