// mxmla's public interface: a model folder in, tokens, text and logits out. Needs nothing else of the source tree.
//
//   mxmla::Model model("DeepSeek-V2-Lite-MXFP4");
//   mxmla::GenerateOptions options;
//   options.max_tokens = 64;
//   const mxmla::Generation answer = model.Generate(model.Encode("The capital of France is"), options);
//   std::cout << model.Decode(answer.tokens) << '\n';
//
// Every failure is an mxmla::Exception whose what() is one line naming the thing, what was expected and what was found.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace mxmla {

class Exception : public std::runtime_error {
 public:
  Exception(int status, const std::string& message) : std::runtime_error(message), status_(status) {}
  // The program's exit status for this failure; README.md lists them.
  int status() const { return status_; }

 private:
  int status_;
};

struct LoadOptions {
  std::string device = "auto";              // auto, ref, cpu, cuda or cuda:N
  int threads = 0;                          // 0: every processor the process may use
  std::string v_layout = "fused";           // copy, strided or fused
  std::string absorb_dtype = "checkpoint";  // checkpoint, bf16 or mxfp4
  std::string activations = "bf16";         // bf16, fp8 or mxfp4
  std::string kv_dtype = "auto";            // auto, bf16 or fp8
};

struct GenerateOptions {
  int64_t max_tokens = 256;
  float temperature = 0;  // 0 is greedy
  int64_t top_k = 0;      // 0: all
  float top_p = 1;
  float min_p = 0;               // tokens less likely than this times the likeliest are dropped
  float repetition_penalty = 1;  // divides positive logits of tokens in the prompt or output, multiplies the others
  float presence_penalty = 0;    // is taken from the logits of tokens in the output
  float frequency_penalty = 0;   // likewise, as often as they are in it
  uint64_t seed = 0;
  bool stop_at_eos = true;
  // The generation ends when its text holds one of these; the tokens that spell it are returned. They need a tokenizer
  // in the folder.
  std::vector<std::string> stop_strings;
  // What the text has to match, one of these at most; needs a tokenizer in the folder and a build with xgrammar.
  std::string json_schema, regex;
  std::string grammar;                          // rules NAME ::= ..., the first named root
  std::vector<std::string> choices;             // one of them
  std::function<bool(int32_t token)> on_token;  // each new token as it is chosen; false ends the generation
};

enum class EndReason {
  kStop,    // the end-of-text token, a stop string, or on_token said so
  kLength,  // max_tokens, or the model's context
};

struct Generation {
  std::vector<int32_t> tokens;  // the new ones, without the end-of-text token
  EndReason reason = EndReason::kLength;
};

// A model folder, mapped and ready to run. Not safe to use from two threads at once; one that was moved from can only
// be assigned to or destroyed.
class Model {
 public:
  explicit Model(const std::string& folder, const LoadOptions& options = {});
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  int64_t vocab_size() const;
  int64_t max_context() const;  // tokens of prompt and output together

  // Need a tokenizer in the folder. Encode adds the first token that the folder asks for.
  std::vector<int32_t> Encode(std::string_view text) const;
  std::string Decode(std::span<const int32_t> tokens) const;

  Generation Generate(std::span<const int32_t> prompt, const GenerateOptions& options = {}) const;

  // Float32 logits of every position, row-major (tokens, vocab_size).
  std::vector<float> Logits(std::span<const int32_t> tokens) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mxmla
