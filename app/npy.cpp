#include "npy.h"

#include <fmt/format.h>

namespace mxmla::app {

std::string NpyHeader(int64_t rows, int64_t columns) {
  constexpr size_t kPreamble = 10;  // magic, version, length
  std::string dictionary =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  // The data begins on a 64-byte boundary, after a newline.
  dictionary.append(63 - (kPreamble + dictionary.size()) % 64, ' ');
  dictionary += '\n';
  const size_t length = dictionary.size();
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(length & 0xff);
  header += static_cast<char>(length >> 8);
  return header + dictionary;
}

}  // namespace mxmla::app
