// Errors that say what was wrong: the thing, what was expected, what was found, and what to do.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace mxmla {

// The program's exit status for each kind of failure; documented in README.md.
enum class ErrorCode : int {
  kInternal = 1,        // a bug in mxmla
  kUsage = 2,           // an unknown flag, a flag's value out of range
  kNoModel = 3,         // the model folder does not exist
  kMissingFile = 4,     // a file that a model folder must hold is missing or unreadable
  kBadConfig = 5,       // config.json is not JSON, or a value in it is missing or senseless
  kArchitecture = 6,    // a model architecture that mxmla does not run
  kQuantization = 7,    // a quantisation that mxmla does not know
  kSafetensors = 8,     // a malformed safetensors file or index
  kTensor = 9,          // a tensor that is missing, unexpected, of a wrong shape or dtype
  kNanScale = 10,       // a scale in the weights that is NaN
  kVocabulary = 11,     // tokenizer and model disagree on the vocabulary
  kPromptTooLong = 12,  // prompt and new tokens do not fit the model's context
  kTokenRange = 13,     // a token id outside the vocabulary
  kOutput = 14,         // an output file that cannot be written
  kDevice = 15,         // a device that this build or machine does not have
  kTokenizer = 16,      // a tokenizer file that cannot be used
  kChatTemplate = 17,   // a chat template that mxmla does not know
  kData = 18,           // a malformed data file (eval records, token lists)
  kMemory = 19,         // the model or its buffers do not fit into memory
  kLayout = 20,         // a view that a kernel does not honour
};

class Error : public std::runtime_error {
 public:
  // `message` is one line without a final full stop or newline.
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

// Throws an Error whose one line reads "SUBJECT: expected EXPECTED, found FOUND; HINT". An empty hint is left out.
// Each part goes through PrintableLine, so that a hostile file cannot break the line.
[[noreturn]] void Fail(ErrorCode code, std::string_view subject, std::string_view expected, std::string_view found,
                       std::string_view hint = {});

// The line that Fail throws.
std::string ErrorLine(std::string_view subject, std::string_view expected, std::string_view found,
                      std::string_view hint = {});

// The text as a part of one line: control characters and bytes that are not UTF-8 are replaced, and of a long text the
// middle is left out, so that at most `longest` bytes and "..." remain.
std::string PrintableLine(std::string_view text, size_t longest = 400);

}  // namespace mxmla
