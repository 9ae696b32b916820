#include "machine.h"

#include <fmt/format.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>

#include "wave.h"

namespace gfx950emu {

void Wave::FindBuffer(uint64_t address, uint32_t bytes, bool store) {
  const DeviceMemory::Range range = memory->Find(address, bytes);
  if (range.end == 0) {
    const DeviceMemory::Range below = memory->Below(address);
    throw Error(fmt::format("{} of {} bytes at {:#x}, outside of every buffer (the next below is {:#x} to {:#x}): {}",
                            store ? "store" : "load", bytes, address, below.begin, below.end, current->text));
  }
  if (store && !range.writable) throw Error("store to memory that kernels may only read: " + current->text);
  last_buffer = range;
}

void Wave::FailLds(uint32_t address, uint32_t bytes) const {
  throw Error(
      fmt::format("LDS access of {} bytes at {}, of {} bytes: {}", bytes, address, group->lds.size(), current->text));
}

namespace {

// A NaN as a float, no buffer's address as a pointer, and another number every time.
uint32_t Poison(std::minstd_rand& random) { return 0xffc00000u | static_cast<uint32_t>(random() & 0x3fffff); }

// HSA's dispatch packet, as far as kernels read it.
struct DispatchPacket {
  uint16_t header = 0, setup = 3;
  uint16_t group_size[3] = {};
  uint16_t reserved = 0;
  uint32_t grid_size[3] = {};
  uint32_t private_bytes = 0, group_bytes = 0;
  uint64_t object = 0, kernarg = 0, reserved2 = 0, signal = 0;
};
static_assert(sizeof(DispatchPacket) == 64);

class WorkgroupRunner {
 public:
  WorkgroupRunner(const Kernel& kernel, const Launch& launch, const DeviceMemory& memory, const DispatchPacket& packet,
                  uint32_t lds_bytes)
      : kernel_(kernel), launch_(launch), packet_(packet), group_(lds_bytes), lds_bytes_(lds_bytes) {
    threads_ = launch.threads[0] * launch.threads[1] * launch.threads[2];
    const uint32_t waves = (threads_ + kLanes - 1) / kLanes;
    counters_.by_opcode.resize(kMostOpcodes);
    for (uint32_t index = 0; index < waves; ++index) {
      waves_.push_back(std::make_unique<Wave>());
      Wave& wave = *waves_.back();
      wave.index = static_cast<int>(index);
      wave.group = &group_;
      wave.memory = &memory;
      wave.counters = &counters_;
      wave.scratch_bytes = kernel.scratch_bytes;
      wave.scratch.resize(static_cast<size_t>(kernel.scratch_bytes) * kLanes);
    }
  }

  void Run(const std::array<uint32_t, 3>& id, uint64_t seed) {
    std::minstd_rand random(static_cast<uint32_t>(seed) * 2654435761u + id[0] * 97u + id[1] * 31u + id[2] + 1u);
    Prepare(id, random);
    std::vector<Wave*> order;
    for (const auto& wave : waves_) order.push_back(wave.get());
    while (!order.empty()) {
      std::shuffle(order.begin(), order.end(), random);
      for (Wave* wave : order) {
        wave->at_barrier = false;
        RunToBarrier(*wave);
      }
      std::erase_if(order, [](const Wave* wave) { return wave->done; });
      group_.races.NextEpoch();
      ++counters_.barriers;
    }
    --counters_.barriers;  // the last round ended without one
    ++counters_.workgroups;
    counters_.waves += waves_.size();
  }

  const Counters& counters() const { return counters_; }

 private:
  static constexpr size_t kMostOpcodes = 4096;

  void Prepare(const std::array<uint32_t, 3>& id, std::minstd_rand& random) {
    const uint32_t fill = Poison(random);
    for (uint32_t at = 0; at + 4 <= lds_bytes_; at += 4) std::memcpy(group_.lds.data() + at, &fill, 4);
    group_.races.NextEpoch();
    for (const auto& owned : waves_) {
      Wave& wave = *owned;
      const uint32_t poison = Poison(random);
      const auto fill_registers = [&](uint32_t first, uint32_t count) {
        std::fill_n(wave.v[first], static_cast<size_t>(std::min(count, 256u)) * kLanes, poison);
      };
      // With AccVGPRs, .vgpr_count is of both kinds.
      fill_registers(0, kernel_.vgprs);
      fill_registers(256, kernel_.agprs);
      std::fill(std::begin(wave.s), std::end(wave.s), poison);
      std::fill(wave.scratch.begin(), wave.scratch.end(), static_cast<uint8_t>(0xff));
      wave.scc = poison & 1;
      wave.done = wave.at_barrier = false;
      wave.pc = &kernel_.code.front();
      wave.last_buffer = {};
      wave.outstanding.clear();
      SetScalars(wave, id);
      uint64_t exec = 0;
      for (uint32_t l = 0; l < kLanes; ++l) {
        const uint32_t thread = static_cast<uint32_t>(wave.index) * kLanes + l;
        if (thread >= threads_) continue;
        exec |= uint64_t{1} << l;
        const uint32_t x = thread % launch_.threads[0], y = thread / launch_.threads[0] % launch_.threads[1],
                       z = thread / launch_.threads[0] / launch_.threads[1];
        wave.v[0][l] = x | y << 10 | z << 20;
      }
      wave.SetExec(exec);
    }
  }

  // User registers that the descriptor asks for, in the ABI's order, and the workgroup's place behind them.
  void SetScalars(Wave& wave, const std::array<uint32_t, 3>& id) const {
    int next = 0;
    const auto add = [&](bool wanted, uint64_t value, int words) {
      if (!wanted) return;
      wave.s[next++] = static_cast<uint32_t>(value);
      if (words == 2) wave.s[next++] = static_cast<uint32_t>(value >> 32);
    };
    const auto has = [&](int bit) { return (kernel_.properties >> bit & 1) != 0; };
    if (has(0) || has(2) || has(4)) throw Error(kernel_.name + ": user registers that are not modelled");
    add(has(1), reinterpret_cast<uint64_t>(&packet_), 2);
    add(has(3), reinterpret_cast<uint64_t>(launch_.kernarg.data()), 2);
    add(has(5), 0, 2);
    add(has(6), kernel_.scratch_bytes, 1);
    add((kernel_.rsrc2 >> 7 & 1) != 0, id[0], 1);
    add((kernel_.rsrc2 >> 8 & 1) != 0, id[1], 1);
    add((kernel_.rsrc2 >> 9 & 1) != 0, id[2], 1);
  }

  void RunToBarrier(Wave& wave) {
    uint64_t* const by_opcode = counters_.by_opcode.data();
    while (!wave.done && !wave.at_barrier) {
      const Instruction& i = *wave.pc;
      wave.current = &i;
      wave.pc = i.next;
      ++by_opcode[i.opcode];
      if (!wave.outstanding.empty()) CheckAwaited(wave, i);
      i.run(wave, i);
      if (i.counted != Counted::kNo) Issue(wave, i);
      if (!wave.pc && !wave.done) throw Error("the code ends without s_endpgm");
    }
  }

  static void Issue(Wave& wave, const Instruction& i) {
    Wave::Outstanding one{i.counted, true, 0, 0};
    if (i.loads) {
      const Operand& to = i.operands[0];
      one.vector = to.place == Place::kVector;
      one.first = to.index;
      one.count = to.count;
    }
    wave.outstanding.push_back(one);
  }

  // A register that a load has yet to write is neither read nor written, but by a load of the same kind, which returns
  // behind it.
  static void CheckAwaited(const Wave& wave, const Instruction& i) {
    for (const Wave::Outstanding& one : wave.outstanding) {
      if (one.count == 0) continue;
      for (size_t k = 0; k < i.operands.size(); ++k) {
        const Operand& o = i.operands[k];
        if (o.place != (one.vector ? Place::kVector : Place::kScalar)) continue;
        if (k == 0 && i.loads && i.counted == one.counted && one.counted != Counted::kScalar) continue;
        if (o.index < one.first + one.count && one.first < o.index + o.count) {
          throw Error(
              fmt::format("{}{} before s_waitcnt says that it is loaded: {}", one.vector ? 'v' : 's', o.index, i.text));
        }
      }
    }
  }

  const Kernel& kernel_;
  const Launch& launch_;
  const DispatchPacket& packet_;
  Workgroup group_;
  uint32_t lds_bytes_;
  uint32_t threads_ = 0;
  Counters counters_;
  std::vector<std::unique_ptr<Wave>> waves_;
};

// Registers memory for as long as it lives.
class Registration {
 public:
  Registration(DeviceMemory& memory, const void* data, size_t bytes) : memory_(memory), data_(data) {
    memory_.Register(data, bytes, false);
  }
  ~Registration() { memory_.Forget(data_); }
  Registration(const Registration&) = delete;

 private:
  DeviceMemory& memory_;
  const void* data_;
};

}  // namespace

std::vector<uint8_t> FillKernarg(const Kernel& kernel, const Launch& launch, void* const* values) {
  // Loads of whole pieces may reach beyond the last argument.
  std::vector<uint8_t> bytes((kernel.kernarg_bytes + 63u) / 64 * 64 + 64);
  size_t explicit_index = 0;
  const auto put = [&](const KernelArgument& argument, uint64_t value) {
    std::memcpy(bytes.data() + argument.offset, &value, std::min<size_t>(argument.size, 8));
  };
  for (const KernelArgument& argument : kernel.arguments) {
    const std::string& kind = argument.kind;
    if (kind == "by_value" || kind == "global_buffer") {
      std::memcpy(bytes.data() + argument.offset, values[explicit_index++], argument.size);
      continue;
    }
    const size_t axis = kind.empty() ? 0 : static_cast<size_t>(kind.back() - 'x');
    if (kind.starts_with("hidden_block_count_")) {
      put(argument, launch.groups.at(axis));
    } else if (kind.starts_with("hidden_group_size_")) {
      put(argument, launch.threads.at(axis));
    } else if (kind == "hidden_grid_dims") {
      put(argument, launch.groups[2] > 1 ? 3 : launch.groups[1] > 1 ? 2 : 1);
    } else if (kind == "hidden_dynamic_lds_size") {
      put(argument, launch.dynamic_lds);
    } else if (kind.starts_with("hidden_remainder_") || kind.starts_with("hidden_global_offset_") ||
               kind == "hidden_none") {
      put(argument, 0);
    }  // the others (host calls, queues, heaps) are pointers that stay null: reading through one is out of bounds
  }
  return bytes;
}

void Run(const CodeObject& object, const Kernel& kernel, const Launch& launch, DeviceMemory& memory,
         const LaunchOptions& options, Counters* counters) {
  const uint64_t threads = uint64_t{launch.threads[0]} * launch.threads[1] * launch.threads[2];
  const uint64_t groups = uint64_t{launch.groups[0]} * launch.groups[1] * launch.groups[2];
  const uint64_t lds_bytes = uint64_t{kernel.lds_bytes} + launch.dynamic_lds;
  if (threads == 0 || threads > kernel.most_threads) {
    throw Error(fmt::format("{}: at most {} threads a group, found {}", kernel.name, kernel.most_threads, threads));
  }
  if (lds_bytes > kMostLdsBytes) {
    throw Error(fmt::format("{}: at most {} bytes of LDS, found {}", kernel.name, kMostLdsBytes, lds_bytes));
  }
  if (groups == 0) return;
  DispatchPacket packet;
  for (size_t axis = 0; axis < 3; ++axis) {
    packet.group_size[axis] = static_cast<uint16_t>(launch.threads[axis]);
    packet.grid_size[axis] = launch.threads[axis] * launch.groups[axis];
  }
  const Registration of_packet(memory, &packet, sizeof(packet));
  const Registration of_kernarg(memory, launch.kernarg.data(), launch.kernarg.size());
  const Registration of_image(memory, object.image().data(), object.image().size());

  std::vector<uint64_t> order(groups);
  std::iota(order.begin(), order.end(), uint64_t{0});
  std::mt19937_64 random(options.seed);
  std::shuffle(order.begin(), order.end(), random);

  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    uint64_t group = 0;
    try {
      WorkgroupRunner runner(kernel, launch, memory, packet, static_cast<uint32_t>(lds_bytes));
      for (uint64_t at = next++; at < groups; at = next++) {
        group = order[at];
        const auto x = static_cast<uint32_t>(group % launch.groups[0]);
        const auto y = static_cast<uint32_t>(group / launch.groups[0] % launch.groups[1]);
        const auto z = static_cast<uint32_t>(group / launch.groups[0] / launch.groups[1]);
        runner.Run({x, y, z}, options.seed);
      }
      const std::lock_guard lock(mutex);
      counters->Add(runner.counters());
    } catch (const Error& error) {
      const std::lock_guard lock(mutex);
      if (!failure) {
        failure =
            std::make_exception_ptr(Error(fmt::format("{} (workgroup {}): {}", kernel.name, group, error.what())));
      }
      next = groups;
    }
  };
  const auto workers = static_cast<uint64_t>(std::max(options.threads, 1));
  std::vector<std::thread> others;
  for (uint64_t i = 1; i < std::min(workers, groups); ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
  ++counters->launches;
}

}  // namespace gfx950emu
