#include <algorithm>
#include <exception>
#include <new>
#include <optional>
#include <vector>

#include "core/error.h"
#include "engine/generate.h"
#include "engine/option_names.h"
#include "engine/session.h"
#include "grammar/grammar.h"
#include "mxmla/mxmla.h"
#include "text/tokenizer.h"

namespace mxmla {
namespace {

// Runs `body`, turning the engine's errors into the public ones.
template <class Body>
auto Guard(const Body& body) {
  try {
    return body();
  } catch (const Error& error) {
    throw Exception(static_cast<int>(error.code()), error.what());
  } catch (const Exception&) {
    throw;  // from the caller's own code within a callback
  } catch (const std::bad_alloc&) {
    throw Exception(static_cast<int>(ErrorCode::kMemory),
                    "memory: expected room for the model's buffers, found too little");
  } catch (const std::exception& error) {
    throw Exception(static_cast<int>(ErrorCode::kInternal), "internal error: " + PrintableLine(error.what()));
  } catch (...) {
    throw Exception(static_cast<int>(ErrorCode::kInternal),
                    "internal error: something thrown that is no std::exception");
  }
}

std::optional<GrammarSource> FindGrammar(const GenerateOptions& options) {
  std::vector<GrammarSource> found;
  if (!options.json_schema.empty()) found.push_back({GrammarKind::kJsonSchema, options.json_schema});
  if (!options.regex.empty()) found.push_back({GrammarKind::kRegex, options.regex});
  if (!options.grammar.empty()) found.push_back({GrammarKind::kEbnf, options.grammar});
  if (!options.choices.empty()) found.push_back(ChoiceGrammar(options.choices));
  if (found.size() > 1) {
    Fail(ErrorCode::kUsage, "GenerateOptions", "one of json_schema, regex, grammar and choices", "several");
  }
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

}  // namespace

struct Model::State {
  std::string folder;
  LoadedModel model;
  ModelOptions options;
  std::unique_ptr<Tokenizer> tokenizer;  // read when first asked for: a folder need not have one

  const Tokenizer& Text() {
    if (!tokenizer) tokenizer = Tokenizer::Load(folder);
    return *tokenizer;
  }
};

Model::Model(const std::string& folder, const LoadOptions& options) {
  Guard([&] {
    state_ = std::make_unique<State>();
    state_->folder = folder;
    state_->options.v_layout = ParseVLayout(options.v_layout);
    state_->options.absorb_dtype = ParseAbsorbDType(options.absorb_dtype);
    state_->options.activations = ParseActivations(options.activations);
    state_->options.kv_dtype = ParseKvDType(options.kv_dtype);
    state_->model = LoadedModel::Open(folder, {options.device, options.threads});
  });
}

Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

int64_t Model::vocab_size() const { return state_->model.config.vocab_size; }
int64_t Model::max_context() const { return state_->model.config.max_position_embeddings; }

std::vector<int32_t> Model::Encode(std::string_view text) const {
  return Guard([&] { return state_->Text().EncodePrompt(text); });
}

std::string Model::Decode(std::span<const int32_t> tokens) const {
  return Guard([&] { return state_->Text().Decode(tokens); });
}

Generation Model::Generate(std::span<const int32_t> prompt, const GenerateOptions& options) const {
  return Guard([&] {
    GenerateRequest request;
    request.prompt.assign(prompt.begin(), prompt.end());
    request.max_tokens = std::min(options.max_tokens, max_context() - static_cast<int64_t>(prompt.size()));
    request.sampling = {.temperature = options.temperature,
                        .top_k = options.top_k,
                        .top_p = options.top_p,
                        .min_p = options.min_p,
                        .repetition_penalty = options.repetition_penalty,
                        .presence_penalty = options.presence_penalty,
                        .frequency_penalty = options.frequency_penalty};
    if (!options.stop_strings.empty()) {
      request.stop_strings = options.stop_strings;
      request.tokenizer = &state_->Text();
    }
    request.seed = options.seed;
    request.on_token = options.on_token;
    const std::vector<int64_t>& eos = state_->model.config.eos_token_ids;
    if (options.stop_at_eos) request.stop_tokens.assign(eos.begin(), eos.end());
    if (const auto source = FindGrammar(options)) {
      // The grammar's end is an end-of-text token, whatever ends other texts.
      request.stop_tokens.assign(eos.begin(), eos.end());
      const GrammarCompiler compiler(state_->Text(), vocab_size(), request.stop_tokens);
      request.restrict_tokens =
          GrammarConstraint(compiler.Compile(*source), ThinkingAfter(state_->Text(), request.prompt));
    }
    ModelOptions sizes = state_->options;
    sizes.max_context = static_cast<int64_t>(prompt.size()) + std::max<int64_t>(request.max_tokens, 0);
    sizes.max_batch_tokens =
        std::clamp<int64_t>(static_cast<int64_t>(prompt.size()), 1, state_->model.backend->prefill_rows());
    sizes.max_logit_rows = 1;
    Scheduler scheduler(state_->model, sizes);
    GenerateResult result = std::move(mxmla::Generate(scheduler, {&request, 1})[0]);
    return Generation{std::move(result.tokens), result.stopped() ? EndReason::kStop : EndReason::kLength};
  });
}

std::vector<float> Model::Logits(std::span<const int32_t> tokens) const {
  return Guard([&] {
    ModelOptions sizes = state_->options;
    const auto count = static_cast<int64_t>(tokens.size());
    sizes.max_context = count;
    sizes.max_batch_tokens = std::clamp<int64_t>(count, 1, state_->model.backend->prefill_rows());
    sizes.max_logit_rows = sizes.max_batch_tokens;
    Session session(state_->model, sizes);
    const int sequence = session.Add();
    std::vector<float> logits;
    for (int64_t begin = 0; begin < count; begin += sizes.max_batch_tokens) {
      const int64_t rows = std::min(sizes.max_batch_tokens, count - begin);
      StepInput input{sequence, tokens.subspan(begin, rows), {}, false};
      for (int64_t r = 0; r < rows; ++r) input.logit_rows.push_back(static_cast<int32_t>(r));
      const View<const float, 2> step = session.Step({&input, 1});
      logits.insert(logits.end(), step.data, step.data + step.size());
    }
    return logits;
  });
}

}  // namespace mxmla
