#include "common.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include "core/gguf.h"
#include "engine/option_names.h"

namespace mxmla::app {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kEmbeddedModels = {"tiny-gsm", "tiny-gsm-bf16"};

fs::path ProgramFolder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::path() : program.parent_path();
}

// The first of the folders that hold the project's data in which `file` exists.
std::optional<std::string> FindData(const fs::path& file) {
  std::vector<fs::path> roots;
  if (const char* data = std::getenv("MXMLA_DATA")) roots.emplace_back(data);
  const fs::path program = ProgramFolder();
  roots.push_back(program / "..");
  roots.push_back(program / "../share/mxmla");
  roots.emplace_back(MXMLA_SOURCE_DIR);
  for (const fs::path& root : roots) {
    std::error_code error;
    if (fs::exists(root / file, error)) return (root / file).lexically_normal().string();
  }
  return std::nullopt;
}

}  // namespace

void AddDevice(CLI::App& command, DeviceOptions* device) {
  const auto check = [](const std::string& name) -> std::string {
    for (const char* known : {"auto", "ref", "cpu", "cuda", "hip"}) {
      if (name == known) return {};
    }
    for (const std::string_view gpu : {"cuda:", "hip:"}) {
      const size_t digits = gpu.size();
      if (name.starts_with(gpu) && name.size() > digits && name.size() <= digits + 3 &&
          name.find_first_not_of("0123456789", digits) == std::string::npos) {
        return {};
      }
    }
    return "expected auto, ref, cpu, cuda, cuda:N, hip or hip:N, found " + name;
  };
  command
      .add_option(
          "--device", device->device,
          "auto, ref (float32 loops), cpu (vectorised, bf16), cuda (a Hopper GPU), hip (a gfx950 GPU), or cuda:N "
          "and hip:N (the N-th)")
      ->check(check)
      ->type_name("TEXT:{auto,ref,cpu,cuda,cuda:N}")
      ->capture_default_str();
}

void CommonFlags::AddTo(CLI::App& command) {
  AddDevice(command, &device);
  command.add_option("--threads", device.threads, "threads; 0 uses every available processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_flag(
      "--no-mmap{false}", device.map_weights,
      "read the weights into memory, of huge pages where the system has them, instead of mapping the files");
  command.add_flag("--batch-invariant", device.batch_invariant,
                   "a row's bits depend on nothing beside it, on a GPU too, where large batches then cost more");
  command.add_option("--v-layout", v_layout, "how the V projection reaches o_proj: copy, strided or fused")
      ->check(CLI::IsMember({"copy", "strided", "fused"}))
      ->capture_default_str();
  command
      .add_option("--absorb-dtype", absorb_dtype,
                  "kv_b_proj in absorbed attention: checkpoint (as stored), bf16 or mxfp4 (re-quantised)")
      ->check(CLI::IsMember({"checkpoint", "bf16", "mxfp4"}))
      ->capture_default_str();
  command
      .add_option("--activations", activations,
                  "quantise the inputs of products with FP8 or MXFP4 weights: bf16 (no), fp8 or mxfp4")
      ->check(CLI::IsMember({"bf16", "fp8", "mxfp4"}))
      ->capture_default_str();
  command
      .add_option(
          "--kv-dtype", kv_dtype,
          "what the KV cache holds: auto (the device's activation type), bf16, or fp8 (half the bytes, less exact)")
      ->check(CLI::IsMember({"auto", "bf16", "fp8"}))
      ->capture_default_str();
}

ModelOptions CommonFlags::ToModelOptions() const {
  ModelOptions options;
  options.v_layout = ParseVLayout(v_layout);
  options.absorb_dtype = ParseAbsorbDType(absorb_dtype);
  options.activations = ParseActivations(activations);
  options.kv_dtype = ParseKvDType(kv_dtype);
  if (options.absorb_dtype != AbsorbDType::kCheckpoint) {
    Note("--absorb-dtype " + absorb_dtype +
         ": kv_b_proj is re-quantised at load, for comparison; results differ from the checkpoint's");
  }
  return options;
}

std::string ResolveModel(const std::string& model) {
  for (const std::string& name : kEmbeddedModels) {
    if (model != name) continue;
    if (const auto config = FindData(fs::path("models") / name / "config.json")) {
      return fs::path(*config).parent_path().string();
    }
    Fail(ErrorCode::kNoModel, "embedded model " + name, "models/" + name + " beside the program or in MXMLA_DATA",
         "none", "set MXMLA_DATA to the folder that holds models/");
  }
  std::error_code error;
  const fs::file_status status = fs::status(model, error);
  if (!fs::exists(status)) {
    Fail(ErrorCode::kNoModel, "model " + model, "a folder with config.json and *.safetensors, or tiny-gsm",
         "no such folder", "check the path");
  }
  if (!fs::is_directory(status) && !FindGguf(model).empty()) return model;
  if (!fs::is_directory(status)) {
    Fail(ErrorCode::kNoModel, "model " + model, "a folder with config.json and *.safetensors, or a .gguf file",
         "another file", "give the folder that holds it");
  }
  return model;
}

std::string ResolveConfigFile(const std::string& path) {
  std::error_code error;
  if (fs::exists(path, error)) return path;
  if (const auto found = FindData(path)) return *found;
  return path;
}

namespace {

// On stderr: a bar on a terminal, and a note of the speed behind large models. `where` the weights are in the end.
std::function<void(const LoadState&)> ShowLoading(const std::string& where) {
  return [where, terminal = isatty(STDERR_FILENO) != 0](const LoadState& state) {
    constexpr size_t kWorthANote = size_t{256} << 20;
    constexpr size_t kWidth = 30;
    const auto total = static_cast<double>(state.total);
    const double rate = static_cast<double>(state.done) / std::max(state.seconds, 1e-9) * 1e-9;
    if (state.finished) {
      if (terminal) PrintStderr("\r\033[K");
      if (state.total < kWorthANote) return;
      return Note(
          fmt::format("{} of weights {} in {:.2f} s, {:.1f} GB/s", HumanBytes(total), where, state.seconds, rate));
    }
    if (!terminal || state.total == 0) return;
    const size_t filled = state.done * kWidth / state.total;
    PrintStderr("\rweights [{:<{}}] {} of {}, {:.1f} GB/s\033[K", std::string(filled, '#'), kWidth,
                HumanBytes(static_cast<double>(state.done)), HumanBytes(total), rate);
  };
}

}  // namespace

LoadedModel OpenModel(const std::string& folder, const DeviceOptions& device) {
  LoadedModel model = LoadedModel::Open(folder, device, ShowLoading("read"));
  ShowUploads(&model);
  for (const std::string& note : model.weights.notes) Note(note);
  return model;
}

void ShowUploads(LoadedModel* model) { model->on_upload = ShowLoading("on the device"); }

std::unique_ptr<Tokenizer> OpenTokenizer(const std::string& folder, const ModelConfig& config) {
  std::unique_ptr<Tokenizer> tokenizer = Tokenizer::Load(folder);
  if (tokenizer->vocab_size() > config.vocab_size) {
    Fail(ErrorCode::kVocabulary, folder, fmt::format("a tokenizer with ids below vocab_size {}", config.vocab_size),
         fmt::format("ids up to {}", tokenizer->vocab_size() - 1), "the tokenizer belongs to another model");
  }
  return tokenizer;
}

std::vector<int32_t> ParseTokens(const std::string& list, const std::string& flag) {
  const bool from_file = list.starts_with("@");
  const std::string text = from_file ? ReadText(list.substr(1), flag) : list;
  const ErrorCode malformed = from_file ? ErrorCode::kData : ErrorCode::kUsage;
  std::vector<int32_t> tokens;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    if (std::string_view(", \t\r\n[]").find(*at) != std::string_view::npos) {
      ++at;
      continue;
    }
    int64_t id = 0;
    const auto [stop, error] = std::from_chars(at, end, id);
    const bool separated = stop == end || std::string_view(", \t\r\n[]").find(*stop) != std::string_view::npos;
    if (error == std::errc::invalid_argument || !separated) {
      Fail(malformed, flag, "numbers separated by commas",
           fmt::format("'{}'", std::string(at, std::min<int64_t>(end - at, 20))), "for example 1,2,3");
    }
    if (error == std::errc::result_out_of_range || id < INT32_MIN || id > INT32_MAX) {
      Fail(ErrorCode::kTokenRange, flag, "ids of the vocabulary", std::string(at, stop));
    }
    tokens.push_back(static_cast<int32_t>(id));
    at = stop;
  }
  if (tokens.empty()) Fail(malformed, flag, "at least one token id", "none", "for example 1,2,3");
  return tokens;
}

std::string ReadText(const std::string& path, const std::string& flag) {
  const bool standard = path == "-";
  const std::string subject = flag + " " + path;
  const std::string expected = standard ? "a standard input that can be read" : "a readable file";
  const int descriptor = standard ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    Fail(ErrorCode::kData, subject, expected, errno == ENOENT ? "no such file" : std::strerror(errno));
  }
  std::string text;
  std::vector<char> buffer(size_t{1} << 16);
  ssize_t count = 0;
  int problem = 0;
  do {
    count = read(descriptor, buffer.data(), buffer.size());
    if (count > 0) text.append(buffer.data(), static_cast<size_t>(count));
    if (count < 0) problem = errno;
  } while (count > 0 || (count < 0 && problem == EINTR));
  if (!standard) close(descriptor);
  if (count < 0) {
    Fail(ErrorCode::kData, subject, expected,
         problem == EISDIR  ? "a folder"
         : problem == EBADF ? "one that is closed"
                            : std::strerror(problem));
  }
  return text;
}

void FailStdout() {
  Fail(ErrorCode::kOutput, "standard output", "room for what the command prints", "a write that failed");
}

void PrintStderr(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void Note(const std::string& text) { PrintStderr("note: {}\n", PrintableLine(text, 2000)); }

std::string HumanBytes(double bytes) {
  const char* const units[] = {"B", "kB", "MB", "GB", "TB"};
  int unit = 0;
  while (bytes >= 1000 && unit < 4) {
    bytes /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.2f} {}", bytes, units[unit]);
}

}  // namespace mxmla::app
