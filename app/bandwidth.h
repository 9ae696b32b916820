// The memory bandwidth that decoding is held against.
#pragma once

#include "core/thread_pool.h"

namespace mxmla::app {

// Bytes a second at which all threads together read memory far larger than the caches (the best of a few passes).
double MeasureReadBandwidth(ThreadPool& pool);

}  // namespace mxmla::app
