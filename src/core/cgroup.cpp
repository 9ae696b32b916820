#include "core/cgroup.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <vector>

namespace mxmla {
namespace {

constexpr int kUnlimited = 1 << 20;
constexpr double kNoQuota = std::numeric_limits<double>::infinity();

bool ListHolds(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

// mountinfo writes blanks and backslashes in octal.
std::string Unescape(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool octal =
        text[i] == '\\' && i + 3 < text.size() &&
        std::all_of(text.begin() + i + 1, text.begin() + i + 4, [](char c) { return c >= '0' && c <= '7'; });
    if (octal) {
      result += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

struct Mount {
  bool v2 = false;
  std::string root;  // the cgroup that is seen at `point`
  std::string point;
};

std::vector<Mount> Mounts(const std::string& process, const std::string& controller) {
  std::vector<Mount> mounts;
  std::ifstream file(process + "/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string skip, root, point, type, options;
    words >> skip >> skip >> skip >> root >> point;
    while (words >> skip && skip != "-") {
    }
    words >> type >> skip >> options;
    if (type == "cgroup2" || (type == "cgroup" && ListHolds(options, controller))) {
      mounts.push_back({type == "cgroup2", Unescape(root), Unescape(point)});
    }
  }
  return mounts;
}

// The process's cgroup in the hierarchy that the mount shows.
std::optional<std::string> CgroupPath(const std::string& process, const std::string& controller, bool v2) {
  std::ifstream file(process + "/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (v2 ? controllers.empty() : ListHolds(controllers, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

double QuotaOf(const std::string& folder, bool v2) {
  std::string quota;
  double period = 0;
  if (v2) {
    std::ifstream file(folder + "/cpu.max");
    if (!(file >> quota >> period)) return kNoQuota;
  } else {
    std::ifstream quota_file(folder + "/cpu.cfs_quota_us");
    std::ifstream period_file(folder + "/cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period)) return kNoQuota;
  }
  const double time = std::atof(quota.c_str());  // "max" and -1 are no quota
  return time > 0 && period > 0 ? time / period : kNoQuota;
}

// The path below the mount's root; empty where the cgroup lies outside of what is mounted.
std::string Below(const std::string& path, const std::string& root) {
  if (root == "/") return path == "/" || path.starts_with("/..") ? "" : path;
  return path.starts_with(root + "/") ? path.substr(root.size()) : "";
}

size_t ReadBytes(const std::string& file) {
  std::ifstream stream(file);
  size_t bytes = 0;
  return stream >> bytes ? bytes : 0;
}

size_t MemoryLeft(const std::string& folder, bool v2) {
  std::ifstream limit_file(folder + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  size_t limit = 0;
  if (!(limit_file >> limit)) return SIZE_MAX;  // "max"
  const size_t used = ReadBytes(folder + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  size_t of_files = 0;
  std::ifstream statistics(folder + "/memory.stat");
  const std::string prefix = v2 ? "" : "total_";
  size_t bytes = 0;
  for (std::string key; statistics >> key >> bytes;) {
    if (key == prefix + "inactive_file" || key == prefix + "active_file") of_files += bytes;
  }
  const size_t held = used - std::min(used, of_files);
  return limit - std::min(limit, held);
}

// Calls visit(folder, v2) for the process's cgroups of `controller`.
template <class Visit>
void ForEachCgroup(const std::string& process, const std::string& controller, const Visit& visit) {
  for (const Mount& mount : Mounts(process, controller)) {
    const std::optional<std::string> path = CgroupPath(process, controller, mount.v2);
    if (!path) continue;
    for (std::string below = Below(*path, mount.root);; below.resize(below.rfind('/'))) {
      visit(mount.point + below, mount.v2);
      if (below.empty()) break;
    }
  }
}

}  // namespace

int CgroupProcessors(const std::string& process) {
  double least = kNoQuota;
  ForEachCgroup(process, "cpu",
                [&](const std::string& folder, bool v2) { least = std::min(least, QuotaOf(folder, v2)); });
  return least >= kUnlimited ? kUnlimited : std::max(1, static_cast<int>(std::floor(least)));
}

size_t CgroupMemory(const std::string& process) {
  size_t least = SIZE_MAX;
  ForEachCgroup(process, "memory",
                [&](const std::string& folder, bool v2) { least = std::min(least, MemoryLeft(folder, v2)); });
  return least;
}

}  // namespace mxmla
