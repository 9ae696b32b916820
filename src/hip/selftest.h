// What a first user with the hardware runs: the facts about matrix instructions that src/hip takes from documents and
// from an emulator, one by one, and every op against `ref`.
#pragma once

#include <functional>
#include <string>

#include "ops/backend.h"

namespace mxmla::hip {

struct Finding {
  std::string name;  // "v_mfma_f32_16x16x32_bf16: rows and columns of the result"
  bool holds = false;
  std::string detail;  // where it does not: expected and found
  double seconds = 0;  // of the fastest of a few runs, by events around it; 0 where nothing is timed
};

// `backend` is one of OpenBackend's. Calls `report` as each is known. Returns whether all hold.
bool SelfTest(Backend& backend, const std::function<void(const Finding&)>& report);

}  // namespace mxmla::hip
