// mxmla bench: speeds beside the read bandwidth of the same run.
#include "bench_model.h"

namespace mxmla::app {

void AddBench(CLI::App& app) {
  CLI::App* bench = app.add_subcommand(
      "bench",
      "Measure ops, attention, linear layers, the V projection, decoding, prefilling, the scheduler and a server");
  bench->require_subcommand(1);
  bench->footer("Example:\n  mxmla bench decode --dummy configs/deepseek-v2-lite.json --layers 4");
  AddBenchAttention(*bench);
  AddBenchLinear(*bench);
  AddBenchModel(*bench);
  AddBenchScheduler(*bench);
  AddBenchServe(*bench);
  AddBenchVproj(*bench);
}

}  // namespace mxmla::app
