// Branches, barriers, waiting, and what has no effect here.
#include "operands.h"
#include "operations.h"

namespace gfx950emu {
namespace {

template <class F>
Operation Branch(F) {
  return {[](Wave& w, const Instruction& i) {
    if (F{}(w)) w.pc = i.target;
  }};
}

// Takes the oldest operations off the list until at most `left` of a kind are outstanding. Scalar loads return in any
// order, so that only waiting for all of their counter says that one is there.
void Await(Wave& w, bool vector, int left) {
  if (left < 0) return;
  const auto counts = [&](const Wave::Outstanding& one) {
    return vector ? one.counted == Counted::kVector : one.counted != Counted::kVector;
  };
  auto outstanding = std::count_if(w.outstanding.begin(), w.outstanding.end(), counts);
  for (auto at = w.outstanding.begin(); at != w.outstanding.end() && outstanding > left;) {
    if (counts(*at) && (at->counted != Counted::kScalar || left == 0)) {
      at = w.outstanding.erase(at);
      --outstanding;
    } else {
      if (counts(*at)) --outstanding;
      ++at;
    }
  }
}

}  // namespace

void AddControl(OperationTable& table) {
  table["s_branch"] = Branch([](const Wave&) { return true; });
  table["s_cbranch_scc0"] = Branch([](const Wave& w) { return !w.scc; });
  table["s_cbranch_scc1"] = Branch([](const Wave& w) { return w.scc; });
  table["s_cbranch_vccz"] = Branch([](const Wave& w) { return w.vcc() == 0; });
  table["s_cbranch_vccnz"] = Branch([](const Wave& w) { return w.vcc() != 0; });
  table["s_cbranch_execz"] = Branch([](const Wave& w) { return w.exec() == 0; });
  table["s_cbranch_execnz"] = Branch([](const Wave& w) { return w.exec() != 0; });
  table["s_endpgm"] = {[](Wave& w, const Instruction&) { w.done = true; }};
  table["s_barrier"] = {[](Wave& w, const Instruction&) { w.at_barrier = true; }};
  table["s_waitcnt"] = {[](Wave& w, const Instruction& i) {
    Await(w, true, i.wait_vector);
    Await(w, false, i.wait_lds);
  }};
  // Caches and timing are not modelled.
  for (const char* name : {"s_nop", "s_setprio", "s_sleep", "s_icache_inv", "s_dcache_inv", "s_dcache_wb", "buffer_inv",
                           "buffer_wbl2", "s_code_end"}) {
    table[name] = {[](Wave&, const Instruction&) {}};
  }
}

}  // namespace gfx950emu
