// mxmla inspect: what a model folder holds.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoint/safetensors.h"
#include "common.h"
#include "output_file.h"

namespace mxmla::app {
namespace {

struct InspectFlags {
  std::string model, json;
  bool check = false, strict = false;
};

struct KvBytes {
  int64_t bf16 = 0;  // device cpu
  int64_t f32 = 0;   // device ref
};

KvBytes KvBytesPerToken(const ModelConfig& config) {
  const int64_t elements =
      config.num_hidden_layers * config.kv_row() + config.IndexerLayers() * config.indexer.head_dim;
  return {elements * 2, elements * 4};
}

// "15.71 B", "7.58 M"
std::string HumanCount(int64_t count) {
  const auto value = static_cast<double>(count);
  return count >= 1'000'000'000 ? fmt::format("{:.2f} B", value * 1e-9) : fmt::format("{:.2f} M", value * 1e-6);
}

nlohmann::json ToJson(const ModelConfig& config, const ModelWeights& weights, const WeightSummary& summary) {
  nlohmann::json groups = nlohmann::json::array();
  for (const TensorGroup& group : summary.groups) {
    groups.push_back({{"name", group.name},
                      {"tensors", group.tensors},
                      {"parameters", group.parameters},
                      {"bytes", group.bytes},
                      {"decode_bytes", group.decode_bytes},
                      {"formats", group.formats},
                      {"used", group.used}});
  }
  return {{"architecture", config.architecture_name},
          {"model_type", config.model_type},
          {"quantization", QuantMethodName(config.quantization.method)},
          {"num_hidden_layers", config.num_hidden_layers},
          {"hidden_size", config.hidden_size},
          {"num_attention_heads", config.num_attention_heads},
          {"q_lora_rank", config.q_lora_rank},
          {"kv_lora_rank", config.kv_lora_rank},
          {"qk_nope_head_dim", config.qk_nope_head_dim},
          {"qk_rope_head_dim", config.qk_rope_head_dim},
          {"v_head_dim", config.v_head_dim},
          {"index_topk", config.indexer.topk},
          {"index_n_heads", config.indexer.heads},
          {"index_head_dim", config.indexer.head_dim},
          {"indexer_layers", config.IndexerLayers()},
          {"n_routed_experts", config.n_routed_experts},
          {"num_experts_per_tok", config.num_experts_per_tok},
          {"n_shared_experts", config.n_shared_experts},
          {"vocab_size", config.vocab_size},
          {"max_position_embeddings", config.max_position_embeddings},
          {"parameters", summary.parameters},
          {"active_parameters", summary.decode_parameters},
          {"bytes", summary.bytes},
          {"kv_bytes_per_token", KvBytesPerToken(config).bf16},
          {"bytes_read_per_token", summary.decode_bytes},
          {"groups", groups},
          {"notes", weights.notes}};
}

void PrintReport(const ModelConfig& config, const WeightSummary& summary) {
  fmt::print("architecture   {} ({})\n", config.architecture_name, config.model_type);
  fmt::print("quantisation   {}\n", QuantMethodName(config.quantization.method));
  fmt::print("layers         {} of hidden {}, {} heads\n", config.num_hidden_layers, config.hidden_size,
             config.num_attention_heads);
  fmt::print("attention      q_lora {}, kv_lora {}, nope {}, rope {}, v {}\n",
             config.q_lora_rank ? std::to_string(config.q_lora_rank) : "none", config.kv_lora_rank,
             config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim);
  if (config.indexer.topk > 0) {
    fmt::print("indexer        top {} of {} heads of {}, in {} of the layers\n", config.indexer.topk,
               config.indexer.heads, config.indexer.head_dim, config.IndexerLayers());
  }
  if (config.n_routed_experts > 0) {
    fmt::print("experts        {}, top {}, {} shared, router {}\n", config.n_routed_experts, config.num_experts_per_tok,
               config.n_shared_experts, RouterMethodName(config.topk_method));
  }
  if (config.embedding_scale != 1 || config.residual_scale != 1 || config.logits_scale != 1) {
    fmt::print("scales         embedding {:g}, residual {:g}, logits {:g}\n", config.embedding_scale,
               config.residual_scale, config.logits_scale);
  }
  if (config.query_scale.length > 0) {
    fmt::print("query scale    1 + {:g} ln(1 + floor(position / {}))\n", config.query_scale.beta,
               config.query_scale.length);
  }
  fmt::print("vocabulary     {}, context {}\n", config.vocab_size, config.max_position_embeddings);
  fmt::print("parameters     {}, {} active a token\n", HumanCount(summary.parameters),
             HumanCount(summary.decode_parameters));
  const KvBytes kv = KvBytesPerToken(config);
  fmt::print("weights        {}\n", HumanBytes(static_cast<double>(summary.bytes)));
  fmt::print("KV cache       {} a token (bf16; {} with --device ref)\n", HumanBytes(static_cast<double>(kv.bf16)),
             HumanBytes(static_cast<double>(kv.f32)));
  fmt::print("read a token   {} of weights\n\n", HumanBytes(static_cast<double>(summary.decode_bytes)));
  fmt::print("{:<16}{:>8}{:>14}{:>12}{:>14}  {}\n", "group", "tensors", "parameters", "bytes", "read a token",
             "stored as / used as");
  for (const TensorGroup& group : summary.groups) {
    fmt::print("{:<16}{:>8}{:>14}{:>12}{:>14}  {} / {}\n", group.name, group.tensors, group.parameters,
               HumanBytes(static_cast<double>(group.bytes)), HumanBytes(static_cast<double>(group.decode_bytes)),
               fmt::join(group.formats, ", "), fmt::join(group.used, ", "));
  }
}

void RefuseConverted(const WeightSummary& summary) {
  for (const TensorGroup& group : summary.groups) {
    if (!group.converted) continue;
    Fail(ErrorCode::kTensor, group.name, "matrices used as they are stored (--strict)",
         fmt::format("{} used as {}", fmt::join(group.formats, ", "), fmt::join(group.used, ", ")),
         "store them in a format that mxmla reads in place: BF16, F32, FP8 or MXFP4");
  }
}

void Inspect(const InspectFlags& flags) {
  const std::string folder = ResolveModel(flags.model);
  std::unique_ptr<OutputFile> file;
  if (!flags.json.empty()) file = std::make_unique<OutputFile>(flags.json);
  const ModelConfig config = LoadConfig(folder);
  const ModelWeights weights =
      LoadWeights(Checkpoint::Open(folder), config, flags.check ? ValueCheck::kAll : ValueCheck::kSmall);
  for (const std::string& note : weights.notes) Note(note);
  const WeightSummary summary = SummarizeWeights(weights, config);
  PrintReport(config, summary);
  if (flags.check) fmt::print("\nchecked: every scale is a number, every weight finite\n");
  if (file) {
    file->Write(ToJson(config, weights, summary).dump(2) + "\n");
    file->Commit();
  }
  if (flags.strict) RefuseConverted(summary);
}

}  // namespace

void AddInspect(CLI::App& app) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command = app.add_subcommand("inspect", "Show a model's shapes, precisions and bytes");
  command->add_option("MODEL", flags->model, "model folder, or tiny-gsm")->required();
  command->add_option("--json", flags->json, "write the same to a JSON file");
  command->add_flag("--check", flags->check,
                    "read every value too: refuses scales and weights that are NaN or infinite");
  command->add_flag("--strict", flags->strict,
                    "fail where a matrix is used in another format than it is stored in (vectors are always widened)");
  command->footer("Example:\n  mxmla inspect tiny-gsm --json tiny-gsm.json");
  command->callback([flags] { Inspect(*flags); });
}

}  // namespace mxmla::app
