// Much of the host's memory to the device, as fast as the link between them.
#pragma once

#include <functional>
#include <span>

#include "ops/backend.h"

namespace mxmla::cuda {

// Pinned memory of the host.
Memory AllocatePinned(size_t bytes, const std::string& what, const std::string& hint);

// Copies by way of pinned memory: each of `threads` (at most 8) fills one piece while the device takes its other. The
// transfers' memory may be pageable or a mapped file, which is thus read by several threads. Returns when all is there.
void UploadPageable(int device, int threads, std::span<const Transfer> transfers,
                    const std::function<void(size_t done)>& progress);

}  // namespace mxmla::cuda
