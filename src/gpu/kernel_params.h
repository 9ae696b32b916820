// Filling what the parameters of many kernels have alike, under the same names.
#pragma once

#include <type_traits>

#include "core/scaled.h"
#include "ops/attention.h"

namespace mxmla::gpu {

// `out`, `out_row` and `out_float` of (rows, n).
template <class Params>
void SetRowsOut(const FloatOutput<2>& any, Params* p) {
  std::visit(
      [&](const auto& out) {
        p->out = out.data;
        p->out_row = out.stride[0];
        p->out_float = std::is_same_v<typename std::decay_t<decltype(out)>::Element, float>;
      },
      any);
}

// And `out_head` of (rows, heads, n).
template <class Params>
void SetHeadsOut(const FloatOutput<3>& any, Params* p) {
  std::visit(
      [&](const auto& out) {
        p->out = out.data;
        p->out_row = out.stride[0];
        p->out_head = out.stride[1];
        p->out_float = std::is_same_v<typename std::decay_t<decltype(out)>::Element, float>;
      },
      any);
}

// Where the tokens of rows lie: the page table, and the steps of what differs between rows (SetFirstRow).
template <class Params>
void SetPages(const DecodeAttentionArgs& args, Params* p) {
  p->page_size = static_cast<int>(Extent(args.kv_pages, 1));
  p->block_table = args.block_table.data;
  p->table_row = args.block_table.stride[0];
  p->table_column = args.block_table.stride[1];
  p->sequence_step = args.row_sequence.stride[0];
  if (args.chosen) {
    p->chosen_row = args.chosen->stride[0];
    p->chosen_column = args.chosen->stride[1];
  }
}
// Rows `row` and on.
template <class Params>
void SetFirstRow(const DecodeAttentionArgs& args, int64_t row, Params* p) {
  p->row_sequence = args.row_sequence.data + row * p->sequence_step;
  if (args.chosen) p->chosen = args.chosen->data + row * p->chosen_row;
}

}  // namespace mxmla::gpu
