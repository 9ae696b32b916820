// How much a template may do. Templates come with models from anywhere.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mxmla::jinja {

struct Limits {
  // Nodes evaluated, items visited, and bytes of text written in units of 64: a second or two of work.
  int64_t steps = 25'000'000;
  // Bytes of all values alive.
  size_t memory = size_t{1} << 30;
  // Bytes of one text, the output included.
  size_t text = size_t{256} << 20;
  // Expressions and statements entered and not yet left, macros that call each other included.
  int depth = 800;
};

// Levels of brackets and blocks in a template's source, and of nodes in its syntax tree.
inline constexpr int kDeepestSource = 250;

// Levels of lists and dicts inside each other.
inline constexpr int kDeepestValue = 200;

// Bytes of a template's source.
inline constexpr size_t kLongestSource = size_t{16} << 20;

}  // namespace mxmla::jinja
