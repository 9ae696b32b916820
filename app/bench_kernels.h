// What the benchmarks of single ops share: their flags, the device, the times, and what is written of them.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bandwidth.h"
#include "common.h"
#include "line_chart.h"
#include "op_timer.h"
#include "output_file.h"

namespace mxmla::app {

struct KernelBenchFlags {
  DeviceOptions device;
  int64_t repeat = 9;
  bool programmatic = false;
  std::string json, svg;

  void AddTo(CLI::App& command);
};

// "--batch 1,8": numbers from 1 to `most`; and formats of weights or activations, out of mxfp4, fp8 and bf16.
void AddNumbers(CLI::App& command, const char* flag, const char* what, int64_t most, std::vector<int64_t>* numbers);
void AddFormats(CLI::App& command, const char* flag, const char* what, std::vector<std::string>* formats);
std::vector<std::string> Names(const std::vector<int64_t>& numbers);

class KernelBench {
 public:
  explicit KernelBench(const KernelBenchFlags& flags);

  Backend& backend() { return *backend_; }
  ExecContext& context() { return context_; }
  ReadLimit& limit() { return limit_; }
  VendorProducts* vendor() const { return vendor_.get(); }  // null before OpenVendor, and where there is none

  std::string Describe() const;
  // Opens the library, and prints a line that names it and what it does, or why none is beside our times; the latter
  // only on a device that could have one.
  void OpenVendor(const std::string& what);

  // How many operands of `bytes` each exceed the caches together: at least 1, at most `most`.
  int64_t Sets(int64_t bytes, int64_t most) const;

  // Makes room for what the kernels of `calls` ask for.
  void Plan(const std::function<void(const ExecContext& planned)>& calls);
  // OpTimer::Seconds in microseconds.
  std::vector<double> Microseconds(int ways, int64_t links, const std::function<void(int way, int64_t link)>& link);

  void AddRow(nlohmann::json row) { rows_.push_back(std::move(row)); }
  // Prints the read limit, and writes the files that the flags ask for. `charts` draws the rows over `x`.
  void Finish(const std::string& x_title, const std::vector<std::string>& x,
              const std::function<std::vector<Chart>(const nlohmann::json& rows)>& charts);

 private:
  KernelBenchFlags flags_;
  std::optional<OutputFile> json_, svg_;
  std::unique_ptr<Backend> backend_;
  ReadLimit limit_;
  ExecContext context_;
  WorkspaceMemory workspace_;
  OpTimer timer_;
  std::unique_ptr<VendorProducts> vendor_;
  nlohmann::json rows_ = nlohmann::json::array();
};

}  // namespace mxmla::app
