// The formats of weights that the products of this folder read.
#pragma once

#include <type_traits>

#include "core/scaled.h"

namespace mxmla::gpu {

template <class Weight>
inline constexpr bool kIsRead =
    std::is_same_v<Weight, View<const float, 2>> || std::is_same_v<Weight, View<const bf16, 2>> ||
    std::is_same_v<Weight, Fp8Block> || std::is_same_v<Weight, Mxfp4<const e2m1x2, 2>>;

}  // namespace mxmla::gpu
