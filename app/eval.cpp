// mxmla eval: accuracy on GSM8K-style records.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "common.h"
#include "engine/generate.h"
#include "generation.h"
#include "output_file.h"

namespace mxmla::app {
namespace {

struct EvalFlags {
  std::string model, data, json;
  int64_t limit = 0;
  int64_t shots = 0;
  int64_t max_tokens = 400;
  int64_t batch = 16;
  CommonFlags common;
};

struct Record {
  std::string question, answer;
};

std::vector<Record> ReadRecords(const std::string& path) {
  std::istringstream text(ReadText(path, "DATA"));
  std::vector<Record> records;
  std::string line;
  for (int64_t number = 1; std::getline(text, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    const auto has = [&](const char* key) { return json.is_object() && json.contains(key) && json[key].is_string(); };
    if (!has("question") || !has("answer")) {
      Fail(ErrorCode::kData, fmt::format("{} line {}", path, number),
           "a JSON object with the strings question and answer",
           json.is_discarded() ? "text that is not JSON" : "something else");
    }
    records.push_back({json["question"], json["answer"]});
  }
  if (records.empty()) Fail(ErrorCode::kData, path, "at least one record", "none");
  return records;
}

// The number after the first "####", without thousands separators and currency signs.
std::optional<double> FinalNumber(const std::string& answer) {
  const size_t mark = answer.find("####");
  if (mark == std::string::npos) return std::nullopt;
  std::string digits;
  for (size_t i = mark + 4; i < answer.size() && answer[i] != '\n'; ++i) {
    if (std::string_view(", $\t\r").find(answer[i]) == std::string_view::npos) digits += answer[i];
  }
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end == digits.data()) return std::nullopt;
  return value;
}

bool SameNumber(std::optional<double> a, std::optional<double> b) {
  return a && b && std::abs(*a - *b) <= 1e-6 * std::max(1.0, std::abs(*b));
}

std::string Prompt(const std::vector<Record>& shots, const std::string& question) {
  std::string prompt;
  for (const Record& shot : shots) {
    prompt += "Question: " + shot.question + "\nAnswer: " + shot.answer + "\n\n";
  }
  return prompt + "Question: " + question + "\nAnswer:";
}

// Whether a generation has said its answer: a whole line after "####", or the start of another question.
bool Answered(const std::string& text) {
  const size_t mark = text.find("####");
  if (mark != std::string::npos) return text.find('\n', mark) != std::string::npos;
  return text.find("\nQuestion:") != std::string::npos;
}

// A problem as the JSON file holds it.
nlohmann::json Describe(const Record& record, const GenerateRequest& request, const GenerateResult& result,
                        std::optional<double> found, bool correct) {
  const std::optional<double> expected = FinalNumber(record.answer);
  const auto number = [](std::optional<double> value) { return value ? nlohmann::json(*value) : nlohmann::json(); };
  return {{"question", record.question},
          {"ids", result.tokens},
          {"text", result.text},
          {"answer", number(found)},
          {"expected", number(expected)},
          {"correct", correct},
          {"end", EndName(result)},
          {"prompt_tokens", request.prompt.size()},
          {"cached_tokens", result.cached_tokens},
          {"new_tokens", result.tokens.size()}};
}

struct Result {
  std::vector<nlohmann::json> problems;  // in the records' order
  int64_t total = 0, correct = 0, unanswered = 0;
  double seconds = 0;
  GenerateStats stats;

  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(total); }
  double standard_error() const { return std::sqrt(accuracy() * (1 - accuracy()) / static_cast<double>(total)); }
};

void PrintProgress(const Result& result, size_t records) {
  const bool terminal = isatty(STDERR_FILENO);
  if (!terminal && result.total % 100 != 0 && result.total != static_cast<int64_t>(records)) return;
  PrintStderr("{}{}/{} problems, {:.1f}% correct{}", terminal ? "\r" : "", result.total, records,
              100 * result.accuracy(), terminal && result.total != static_cast<int64_t>(records) ? "" : "\n");
}

Result Evaluate(const EvalFlags& flags, const LoadedModel& model, const Tokenizer& tokenizer,
                const std::vector<Record>& shots, const std::vector<Record>& records) {
  std::vector<GenerateRequest> requests(records.size());
  std::vector<std::string> texts(records.size());
  int64_t longest = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    GenerateRequest& request = requests[i];
    request.prompt = tokenizer.EncodePrompt(Prompt(shots, records[i].question));
    const auto room = model.config.max_position_embeddings - static_cast<int64_t>(request.prompt.size());
    if (room <= 0) {
      Fail(ErrorCode::kPromptTooLong, fmt::format("problem {} of {}", i + 1, flags.data),
           fmt::format("fewer than {} tokens", model.config.max_position_embeddings),
           fmt::format("{}", request.prompt.size()), "use fewer --shots");
    }
    request.max_tokens = std::min(flags.max_tokens, room);
    for (const int64_t id : model.config.eos_token_ids) request.stop_tokens.push_back(static_cast<int32_t>(id));
    request.tokenizer = &tokenizer;
    request.on_text = [text = &texts[i]](std::string_view piece) { return !Answered(*text += piece); };
    longest = std::max(longest, static_cast<int64_t>(request.prompt.size()) + request.max_tokens);
  }

  ModelOptions options = flags.common.ToModelOptions();
  options.max_context = longest;
  options.max_sequences = flags.batch;
  options.max_logit_rows = flags.batch;
  Scheduler scheduler(model, options);
  Result result;
  result.problems.resize(records.size());
  const auto begin = std::chrono::steady_clock::now();
  Generate(scheduler, requests, &result.stats, [&](size_t i, const GenerateResult& generated) {
    const std::optional<double> found = FinalNumber(generated.text);
    const bool correct = SameNumber(found, FinalNumber(records[i].answer));
    result.problems[i] = Describe(records[i], requests[i], generated, found, correct);
    ++result.total;
    if (!found) ++result.unanswered;
    if (correct) ++result.correct;
    PrintProgress(result, records.size());
  });
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

void Eval(const EvalFlags& flags) {
  const std::string folder = ResolveModel(flags.model);
  std::vector<Record> records = ReadRecords(flags.data);
  for (size_t i = 0; i < records.size(); ++i) {
    if (FinalNumber(records[i].answer)) continue;
    Fail(ErrorCode::kData, fmt::format("{}, record {}", flags.data, i + 1), "an answer with a number after ####",
         "none");
  }
  std::unique_ptr<OutputFile> file;
  if (!flags.json.empty()) file = std::make_unique<OutputFile>(flags.json);
  const LoadedModel model = OpenModel(folder, flags.common.device);
  const std::unique_ptr<Tokenizer> tokenizer = OpenTokenizer(folder, model.config);

  // The shots are the first records, and are not asked.
  if (flags.shots >= static_cast<int64_t>(records.size())) {
    Fail(ErrorCode::kData, flags.data, fmt::format("more than {} records for {} shots", flags.shots, flags.shots),
         fmt::format("{}", records.size()));
  }
  const std::vector<Record> shots(records.begin(), records.begin() + flags.shots);
  records.erase(records.begin(), records.begin() + flags.shots);
  if (flags.limit > 0 && flags.limit < static_cast<int64_t>(records.size())) {
    records.erase(records.begin() + flags.limit, records.end());
  }

  const Result result = Evaluate(flags, model, *tokenizer, shots, records);
  const double rate = static_cast<double>(result.stats.new_tokens) / result.seconds;
  fmt::print("accuracy  {:.1f}% +- {:.1f} ({} of {}; {} without an answer)\n", 100 * result.accuracy(),
             100 * result.standard_error(), result.correct, result.total, result.unanswered);
  fmt::print("speed     {:.1f} new tokens/s, {} problems at a time, {:.1f} s\n", rate, flags.batch, result.seconds);
  if (!file) return;
  const nlohmann::json json = {{"accuracy", result.accuracy()},
                               {"standard_error", result.standard_error()},
                               {"correct", result.correct},
                               {"total", result.total},
                               {"unanswered", result.unanswered},
                               {"shots", flags.shots},
                               {"new_tokens", result.stats.new_tokens},
                               {"prompt_tokens", result.stats.prompt_tokens},
                               {"seconds", result.seconds},
                               {"tokens_per_second", rate},
                               {"stats",
                                {{"prompt_tokens", result.stats.prompt_tokens},
                                 {"cached_tokens", result.stats.cached_tokens},
                                 {"prefill_seconds", result.stats.prefill_seconds},
                                 {"new_tokens", result.stats.new_tokens},
                                 {"decode_tokens", result.stats.decode_tokens},
                                 {"decode_seconds", result.stats.decode_seconds}}},
                               {"problems", result.problems}};
  file->Write(json.dump(2) + "\n");
  file->Commit();
}

}  // namespace

void AddEval(CLI::App& app) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* command = app.add_subcommand("eval", "Measure accuracy on GSM8K-style problems");
  command->add_option("MODEL", flags->model, "model folder, or tiny-gsm")->required();
  command->add_option("DATA", flags->data, "JSON lines with question and answer, the answer's number after ####")
      ->required();
  command->add_option("--limit", flags->limit, "ask only the first N problems; 0 is all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--shots", flags->shots, "show the first K records, solved, before each problem")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--max-tokens", flags->max_tokens, "new tokens a problem at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--batch", flags->batch, "problems at a time; answers do not depend on it")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command->add_option("--json", flags->json,
                      "write the figures, and each problem's ids, text and answer, to a JSON file");
  flags->common.AddTo(*command);
  command->footer("Example:\n  mxmla eval tiny-gsm models/tiny-gsm/heldout.jsonl --limit 100 --json eval.json");
  command->callback([flags] { Eval(*flags); });
}

}  // namespace mxmla::app
