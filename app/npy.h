// NumPy's .npy format, version 1.0 (numpy.lib.format): float32 matrices.
#pragma once

#include <string>

#include "output_file.h"

namespace mxmla::app {

// The header of a C-ordered little-endian float32 array (rows, columns); the data follows it.
std::string NpyHeader(int64_t rows, int64_t columns);

}  // namespace mxmla::app
