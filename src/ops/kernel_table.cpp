#include "ops/kernel_table.h"

#include <fmt/format.h>

namespace mxmla {
namespace {

constexpr DType kDTypes[] = {DType::kF32,    DType::kBf16, DType::kE4m3, DType::kE8m0,
                             DType::kE2m1x2, DType::kI32,  DType::kI64};

int64_t ElementBytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBf16:
      return 2;
    case DType::kI64:
      return 8;
    default:
      return 1;
  }
}

bool IsEmpty(const Operand& operand) {
  for (int d = 0; d < operand.rank; ++d) {
    if (operand.shape[d] == 0) return true;
  }
  return false;
}

bool Meets(const Requirement& requirement, const Operand& operand) {
  if (!(requirement.dtypes & DTypeBit(operand.dtype))) return false;
  if (IsEmpty(operand)) return true;
  const int last = operand.rank - 1;
  if (requirement.inner_stride_one && !operand.free_strides && operand.shape[last] > 1 && operand.stride[last] != 1)
    return false;
  if (reinterpret_cast<uintptr_t>(operand.data) % requirement.alignment != 0) return false;
  for (int d = 0; d < last; ++d) {
    const int64_t step = operand.stride[d] * ElementBytes(operand.dtype);
    if (operand.shape[d] > 1 && step % requirement.alignment != 0) return false;
  }
  return true;
}

// Whether every plane of the operand that `requirement` names meets it.
bool Meets(const Requirement& requirement, const OperandList& operands) {
  for (const Operand& operand : operands) {
    if (operand.name == requirement.operand && !Meets(requirement, operand)) return false;
  }
  return true;
}

std::string Describe(const Requirement& requirement) {
  std::string text(requirement.operand);
  if (requirement.dtypes != ~0u) {
    std::string_view separator = " ";
    for (DType dtype : kDTypes) {
      if (!(requirement.dtypes & DTypeBit(dtype))) continue;
      text += fmt::format("{}{}", separator, DTypeName(dtype));
      separator = "|";
    }
  }
  if (requirement.inner_stride_one) text += " inner stride 1";
  if (requirement.alignment > 1) text += fmt::format(" aligned to {} bytes", requirement.alignment);
  return text;
}

// The largest power of two, up to 64, that divides the operand's address.
int64_t AddressAlignment(const Operand& operand) {
  int64_t alignment = 1;
  while (alignment < 64 && reinterpret_cast<uintptr_t>(operand.data) % (2 * alignment) == 0) alignment *= 2;
  return alignment;
}

}  // namespace

void OperandList::Push(const Operand& operand) {
  if (count_ == kCapacity) {
    Fail(ErrorCode::kInternal, "operand list", fmt::format("at most {} planes", kCapacity), operand.name);
  }
  operands_[count_++] = operand;
}

namespace internal {

bool Meets(const std::vector<Requirement>& requirements, const OperandList& operands) {
  for (const Requirement& requirement : requirements) {
    if (!mxmla::Meets(requirement, operands)) return false;
  }
  return true;
}

void Explain(std::string_view kernel, const std::vector<Requirement>& requirements, const OperandList& operands,
             std::string* report) {
  if (!report->empty()) *report += "; or ";
  *report += fmt::format("{}:", kernel);
  std::string_view separator = " ";
  for (const Requirement& requirement : requirements) {
    if (mxmla::Meets(requirement, operands)) continue;
    *report += fmt::format("{}{}", separator, Describe(requirement));
    separator = ", ";
  }
}

void ExplainCondition(std::string_view says, std::string* report) { *report += fmt::format(", {}", says); }

void FailLayout(std::string_view op, const std::string& required, const OperandList& operands) {
  std::string found;
  for (const Operand& operand : operands) {
    if (!found.empty()) found += "; ";
    found +=
        fmt::format("{} {} {} strides {}", operand.name, DTypeName(operand.dtype),
                    FormatDims(operand.shape.data(), operand.rank), FormatDims(operand.stride.data(), operand.rank));
    if (AddressAlignment(operand) < 64) found += fmt::format(" at a {}-byte boundary", AddressAlignment(operand));
  }
  Fail(ErrorCode::kLayout, fmt::format("{}: no kernel honours the views", op),
       required.empty() ? "a kernel for this op in the backend" : required, found);
}

}  // namespace internal

void CheckExtent(std::string_view op, std::string_view what, int64_t expected, int64_t found) {
  if (expected == found) return;
  Fail(ErrorCode::kLayout, fmt::format("{}: {}", op, what), std::to_string(expected), std::to_string(found));
}

}  // namespace mxmla
