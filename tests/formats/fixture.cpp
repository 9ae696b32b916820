#include "fixture.h"

#include <bit>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace mxmla::test {

FixtureArray LoadFixture(const std::string& name, const std::string& file) {
  const std::string folder = MXMLA_FORMAT_FIXTURES;
  std::ifstream index_file(folder + "/" + file + ".json");
  const nlohmann::json entry = nlohmann::json::parse(index_file).at(name);
  FixtureArray array{entry.at("dtype"), entry.at("shape"), {}};
  size_t bytes = array.dtype == "uint8" ? 1 : array.dtype == "uint16" ? 2 : 4;
  for (int64_t extent : array.shape) bytes *= static_cast<size_t>(extent);
  array.bytes.resize(bytes);
  std::ifstream data(folder + "/" + file + ".bin", std::ios::binary);
  data.seekg(entry.at("offset").get<int64_t>());
  if (!data.read(reinterpret_cast<char*>(array.bytes.data()), static_cast<std::streamsize>(bytes))) {
    throw std::runtime_error(file + ".bin is too short for " + name);
  }
  return array;
}

bool SameFloat(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

}  // namespace mxmla::test
