#include "grammar/source_limits.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace mxmla {
namespace {

constexpr const char* kSubject = "structured output";

}  // namespace

void CheckSourceLimits(const GrammarSource& source, const GrammarLimits& limits) {
  using Json = nlohmann::json;
  if (source.text.size() > limits.source_bytes) {
    Fail(ErrorCode::kUsage, kSubject, fmt::format("at most {} bytes", limits.source_bytes),
         fmt::format("{}", source.text.size()));
  }
  if (source.kind != GrammarKind::kJsonSchema && source.kind != GrammarKind::kStructuralTag) return;
  size_t references = 0;
  const auto look = [&](int depth, Json::parse_event_t event, const Json& value) {
    // What is opened at depth n is the level n + 1.
    const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    if (opens && depth >= limits.depth) {
      Fail(ErrorCode::kUsage, kSubject, fmt::format("JSON nested at most {} deep", limits.depth), "deeper nesting");
    }
    if (event == Json::parse_event_t::key && value == "$ref") ++references;
    return true;
  };
  if (Json::parse(source.text, look, /*allow_exceptions=*/false).is_discarded()) return;
  if (references > limits.references) {
    Fail(ErrorCode::kUsage, kSubject, fmt::format("at most {} references ($ref)", limits.references),
         fmt::format("{}", references));
  }
}

}  // namespace mxmla
