// mxmla selftest: what a device's kernels assume of it, checked on the device itself.
#include <fmt/format.h>

#include "common.h"
#include "engine/loaded_model.h"
#ifdef MXMLA_WITH_HIP
#include "hip/selftest.h"
#endif

namespace mxmla::app {
namespace {

void SelfTest(const DeviceOptions& device) {
  if (!device.device.starts_with("hip")) {
    Fail(ErrorCode::kUsage, "--device", "hip or hip:N, the only ones that have a selftest", device.device);
  }
  const std::unique_ptr<Backend> backend = OpenBackend(device);
#ifdef MXMLA_WITH_HIP
  int failed = 0;
  const bool holds = hip::SelfTest(*backend, [&](const hip::Finding& finding) {
    const std::string time = finding.seconds > 0 ? fmt::format(" ({:.1f} us)", finding.seconds * 1e6) : "";
    fmt::print("{}  {}{}\n", finding.holds ? "holds" : "FAILS", finding.name, time);
    if (finding.holds) return;
    ++failed;
    fmt::print("       {}\n", finding.detail);
  });
  if (!holds) {
    Fail(ErrorCode::kDevice, "selftest", "all of the above to hold", fmt::format("{} that do not", failed),
         "report them with the device's name; use --device cpu meanwhile");
  }
#endif
}

}  // namespace

void AddSelfTest(CLI::App& app) {
  auto device = std::make_shared<DeviceOptions>();
  device->device = "hip";
  CLI::App* command =
      app.add_subcommand("selftest", "Check on a gfx950 GPU what its kernels assume of matrix instructions");
  AddDevice(*command, device.get());
  command->footer("Example:\n  mxmla selftest --device hip");
  command->callback([device] { SelfTest(*device); });
}

}  // namespace mxmla::app
