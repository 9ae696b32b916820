// The arrays that tools/golden/format_fixtures.py wrote.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace mxmla::test {

struct FixtureArray {
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;

  template <class T>
  std::vector<T> As() const {
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
};

// `file`: "formats", or "weights" of tools/golden/weight_format_fixtures.py.
FixtureArray LoadFixture(const std::string& name, const std::string& file = "formats");

// Equal bits, or both NaN.
bool SameFloat(float a, float b);

}  // namespace mxmla::test
