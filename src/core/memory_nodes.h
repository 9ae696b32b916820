// The machine's memory nodes (NUMA): each has processors of its own near by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mxmla {

// A bit a node, of a list as /sys/devices/system/node writes it: "0-1,3". Nodes beyond 63 are left out; 0 for what is
// no list.
uint64_t ParseNodeList(std::string_view list);

// The nodes that have memory, or 0 where the system does not tell.
uint64_t MemoryNodes();

// Asks that the pages of [data, data + bytes), which nobody has touched, lie on `nodes` in turn, so that threads
// anywhere read them at the speed of all nodes together. `data` is page-aligned. Whether the system does so: containers
// may forbid it.
bool InterleaveMemory(void* data, size_t bytes, uint64_t nodes);

// The same of all pages that the system takes for the calling thread from now on, those of files among them.
bool InterleaveThreadMemory(uint64_t nodes);

}  // namespace mxmla
