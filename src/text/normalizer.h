// What a tokenizer does to a text before it splits it.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mxmla {

class Normalizer {
 public:
  // One step of it.
  class Step {
   public:
    virtual ~Step() = default;
    virtual void Apply(std::string* text) const = 0;
  };

  Normalizer() = default;

  // The "normalizer" of a tokenizer.json: NFC, NFD, NFKC, NFKD, Lowercase, Strip, Replace, Prepend and Precompiled,
  // alone or in a Sequence; null is none. Throws kTokenizer for anything else, naming it.
  //
  // The forms are utf8proc's, of which the characters that Unicode assigned after 12.0 stay as they are, since the
  // tokenizers library's tables end there; lower case is that of Unicode 15.
  static Normalizer FromJson(const nlohmann::json& json, const std::string& subject);

  bool is_empty() const { return steps_.empty(); }

  // Of valid UTF-8; so is the result.
  std::string Apply(std::string_view text) const;

 private:
  static void AppendSteps(const nlohmann::json& json, const std::string& subject, int depth, Normalizer* to);

  std::vector<std::shared_ptr<const Step>> steps_;
};

}  // namespace mxmla
