#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <mutex>

#include "checkpoint/gguf_model.h"
#include "checkpoint/json_reader.h"
#include "checkpoint/safetensors.h"

namespace mxmla {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kMistralIndexFile = "consolidated.safetensors.index.json";
constexpr std::string_view kExtension = ".safetensors";

bool IsBareName(std::string_view file) {
  return file.size() > kExtension.size() && file.substr(file.size() - kExtension.size()) == kExtension &&
         file.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// The folder's only *.safetensors.
std::string FindSingleFile(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code status;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, status)) {
    if (entry.path().extension() == kExtension) found.push_back(entry.path().string());
  }
  if (status) Fail(ErrorCode::kMissingFile, folder, "a readable folder", status.message());
  std::sort(found.begin(), found.end());
  if (found.size() == 1) return found.front();
  if (found.empty()) {
    Fail(ErrorCode::kMissingFile, folder, "model.safetensors, or shards with model.safetensors.index.json", "neither");
  }
  Fail(ErrorCode::kMissingFile, folder + "/" + std::string(kIndexFile), "the index of the shards",
       fmt::format("{} *.safetensors files and no index", found.size()));
}

}  // namespace

std::map<std::string, std::string> ParseSafetensorsIndex(std::string_view text, std::string_view path) {
  const std::string subject(path);
  const Json json = ParseJsonObject(text, subject, ErrorCode::kSafetensors);
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) {
    Fail(ErrorCode::kSafetensors, subject, "an object weight_map", map == json.end() ? "none" : ShowJson(*map));
  }
  std::map<std::string, std::string> result;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || !IsBareName(file.get_ref<const std::string&>())) {
      Fail(ErrorCode::kSafetensors, subject + ": weight_map \"" + name + "\"",
           "the name of a .safetensors file in the same folder", ShowJson(file));
    }
    result.emplace(name, file.get<std::string>());
  }
  if (result.empty()) Fail(ErrorCode::kSafetensors, subject, "a weight_map with tensors", "an empty one");
  return result;
}

const Tensor* Checkpoint::Find(std::string_view name) const {
  const auto at = tensors_.find(name);
  return at == tensors_.end() ? nullptr : at->second;
}

void Checkpoint::AddMapping(const MappedFile& file, std::shared_ptr<const void> owner) {
  if (file.mapped()) mappings_.push_back({file.bytes(), std::move(owner)});
}

namespace {

struct GgufModel {
  std::vector<std::shared_ptr<const GgufFile>> parts;
  std::vector<Tensor> tensors;
};

// Tells of all files' bytes together, while they are read.
class ReadCount {
 public:
  ReadCount(const CheckpointAccess& access, const std::vector<std::string>& paths) : access_(access) {
    std::error_code status;
    for (const std::string& path : paths) {
      const uintmax_t bytes = fs::file_size(path, status);
      if (!status) total_ += bytes;
    }
  }
  FileAccess OfFile() {
    return {access_.map, access_.on_read ? [this](size_t bytes) { Add(bytes); } : std::function<void(size_t)>()};
  }

 private:
  using Clock = std::chrono::steady_clock;

  void Add(size_t bytes) {
    constexpr std::chrono::milliseconds kPause{100};
    const std::lock_guard lock(mutex_);
    done_ += bytes;
    const auto now = Clock::now();
    if (done_ < total_ && now - told_ < kPause) return;
    told_ = now;
    access_.on_read(done_, total_);
  }

  const CheckpointAccess& access_;
  std::mutex mutex_;
  size_t done_ = 0, total_ = 0;
  Clock::time_point told_{};
};

}  // namespace

Checkpoint Checkpoint::Open(const std::string& folder, const CheckpointAccess& access) {
  std::error_code status;
  if (const std::string gguf = FindGguf(folder); !gguf.empty()) {
    Checkpoint checkpoint;
    checkpoint.folder_ = folder;
    auto model = std::make_shared<GgufModel>();
    const std::vector<std::string> parts = GgufParts(gguf);
    ReadCount count(access, parts);
    for (const std::string& part : parts) model->parts.push_back(GgufFile::Open(part, count.OfFile()));
    model->tensors = GgufTensors(model->parts);
    for (const Tensor& tensor : model->tensors) checkpoint.tensors_.emplace(tensor.name, &tensor);
    for (const auto& part : model->parts) checkpoint.AddMapping(part->file(), part);
    checkpoint.gguf_ = std::move(model);
    return checkpoint;
  }
  if (!fs::is_directory(folder, status)) {
    Fail(ErrorCode::kNoModel, folder, "a model folder", fs::exists(folder, status) ? "a file" : "nothing");
  }
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  const std::string single = folder + "/" + std::string(kSingleFile);
  std::string index = folder + "/" + std::string(kIndexFile);
  const std::string mistral_index = folder + "/" + std::string(kMistralIndexFile);
  if (!fs::exists(index, status) && fs::exists(mistral_index, status)) index = mistral_index;
  if (fs::exists(single, status) || !fs::exists(index, status)) {
    const std::string path = fs::exists(single, status) ? single : FindSingleFile(folder);
    ReadCount count(access, {path});
    checkpoint.files_.push_back(SafetensorsFile::Open(path, count.OfFile()));
    for (const Tensor& tensor : checkpoint.files_.back()->tensors()) checkpoint.tensors_.emplace(tensor.name, &tensor);
    checkpoint.AddMapping(checkpoint.files_.back()->file(), checkpoint.files_.back());
    return checkpoint;
  }

  const std::map<std::string, std::string> weight_map =
      ParseSafetensorsIndex(ReadTextFile(index, ErrorCode::kSafetensors), index);
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> shards;
  std::vector<std::string> paths;
  for (const auto& [name, file] : weight_map) {
    if (!shards.try_emplace(file).second) continue;
    paths.push_back(folder + "/" + file);
    if (!fs::exists(paths.back(), status)) {
      Fail(ErrorCode::kMissingFile, paths.back(), "the shard that holds \"" + name + "\"", "no such file",
           "fetch the missing shard");
    }
  }
  ReadCount count(access, paths);
  for (auto& [file, shard] : shards) shard = SafetensorsFile::Open(folder + "/" + file, count.OfFile());
  for (const auto& [file, shard] : shards) {
    for (const Tensor& tensor : shard->tensors()) {
      const auto at = weight_map.find(tensor.name);
      if (at == weight_map.end()) {
        Fail(ErrorCode::kSafetensors, shard->path() + ": tensor \"" + tensor.name + "\"",
             "to be in " + fs::path(index).filename().string(), "nothing there");
      }
      if (at->second == file) checkpoint.tensors_.emplace(tensor.name, &tensor);
    }
    checkpoint.AddMapping(shard->file(), shard);
    checkpoint.files_.push_back(shard);
  }
  for (const auto& [name, file] : weight_map) {
    if (!checkpoint.tensors_.contains(name)) {
      Fail(ErrorCode::kSafetensors, index + ": weight_map \"" + name + "\"", "that tensor in " + file,
           "none of that name");
    }
  }
  return checkpoint;
}

}  // namespace mxmla
