#include "bench_kernels.h"

#include <algorithm>

#include "bench_model.h"

namespace mxmla::app {
namespace {

// More than the caches of a host and of a GPU (an H200's second level: 60 MB) hold.
constexpr int64_t kHostBytes = int64_t{96} << 20, kDeviceBytes = int64_t{400} << 20;

}  // namespace

void KernelBenchFlags::AddTo(CLI::App& command) {
  AddDevice(command, &device);
  command.add_option("--threads", device.threads, "threads; 0 uses every available processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_flag("--batch-invariant", device.batch_invariant,
                   "a row's bits depend on nothing beside it, on a GPU too");
  command.add_flag("--programmatic", programmatic,
                   "on CUDA, launch each kernel as a link of a chain of programmatic dependent launches");
  command.add_option("--repeat", repeat, "runs; the median is printed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command.add_option("--json", json, "write the figures to a JSON file");
  command.add_option("--svg", svg, "draw them");
}

void AddNumbers(CLI::App& command, const char* flag, const char* what, int64_t most, std::vector<int64_t>* numbers) {
  command.add_option(flag, *numbers, what)->delimiter(',')->check(CLI::Range(int64_t{1}, most))->capture_default_str();
}

void AddFormats(CLI::App& command, const char* flag, const char* what, std::vector<std::string>* formats) {
  command.add_option(flag, *formats, what)
      ->delimiter(',')
      ->check(CLI::IsMember({"bf16", "mxfp4", "fp8"}))
      ->capture_default_str();
}

std::vector<std::string> Names(const std::vector<int64_t>& numbers) {
  std::vector<std::string> names;
  for (const int64_t number : numbers) names.push_back(std::to_string(number));
  return names;
}

KernelBench::KernelBench(const KernelBenchFlags& flags)
    : flags_(flags),
      backend_(OpenBackend(flags.device)),
      limit_(*backend_),
      context_(backend_->Context()),
      timer_(*backend_) {
  if (!flags.json.empty()) json_.emplace(flags.json);
  if (!flags.svg.empty()) svg_.emplace(flags.svg);
  if (flags.programmatic && backend_->kernels().backend != "cuda") {
    Fail(ErrorCode::kUsage, "--programmatic", "--device cuda", backend_->Name());
  }
  context_.programmatic = flags.programmatic;
}

std::string KernelBench::Describe() const {
  std::string text = fmt::format("{}, {} threads", backend_->Name(), backend_->pool().threads());
  if (flags_.programmatic) text += ", a chain of programmatic launches";
  return text;
}

void KernelBench::OpenVendor(const std::string& what) {
  std::string why_not;
  vendor_ = backend_->OpenVendorProducts(&why_not);
  if (vendor_) {
    fmt::print("library: {}, {}\n", vendor_->Name(), what);
  } else if (!backend_->reads_host_memory()) {
    fmt::print("no library's products beside them: {}\n", why_not);
  }
}

int64_t KernelBench::Sets(int64_t bytes, int64_t most) const {
  const int64_t wanted = backend_->reads_host_memory() ? kHostBytes : kDeviceBytes;
  return std::clamp<int64_t>((wanted + bytes - 1) / bytes, 1, most);
}

void KernelBench::Plan(const std::function<void(const ExecContext& planned)>& calls) {
  workspace_.Plan(context_, *backend_, calls);
}

std::vector<double> KernelBench::Microseconds(int ways, int64_t links,
                                              const std::function<void(int way, int64_t link)>& link) {
  std::vector<double> times = timer_.Seconds(ways, links, flags_.repeat, link);
  for (double& time : times) time *= 1e6;
  return times;
}

void KernelBench::Finish(const std::string& x_title, const std::vector<std::string>& x,
                         const std::function<std::vector<Chart>(const nlohmann::json& rows)>& charts) {
  limit_.Sample();
  fmt::print("\nread limit {}\n", limit_.Describe());
  nlohmann::json report = {{"device", backend_->kernels().backend},     {"isa", backend_->kernels().isa},
                           {"threads", backend_->pool().threads()},     {"programmatic", flags_.programmatic},
                           {"library", vendor_ ? vendor_->Name() : ""}, {"rows", rows_}};
  AddReadLimit(limit_, &report);
  if (json_) {
    json_->Write(report.dump(2) + "\n");
    json_->Commit();
  }
  if (svg_) {
    svg_->Write(DrawCharts(x_title, x, charts(rows_)));
    svg_->Commit();
  }
}

}  // namespace mxmla::app
