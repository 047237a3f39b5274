// Claim: A file that lacks a metadata key of the forward pass is refused with a MissingKey error
//   that names the key, the same file with all keys loads, and the configuration holds the file's
//   values, which are nobody's defaults.
// Why: A default that happens to be right for one model is silently wrong for the next.
// Catches: rms_norm_eps, rope_theta, head_dim or the number of experts taken from a default or
//   derived from other keys.
// Misses: A value that is read and then not used; forward.matches_textbook sees that.
// Source: A public engine stopped after two tokens because rope theta defaulted to 1e4; fault 103
// of
//   the catalogue.
#include "falsifiers/metadata_required_keys.h"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"
#include "falsifiers/synthetic_run.h"

namespace refute {
namespace {

constexpr std::string_view kId = "metadata.required_keys";

constexpr std::array<MetricInfo, 2> kMetrics = {{
    {"accepted", "Files that lack a key and load, or are refused otherwise; fewer than one.", false,
     0.5},
    {"foreign_values", "Fields of the configuration that are not the file's; fewer than one.",
     false, 0.5},
}};

constexpr std::array<ConfigKey, 12> kRequired = {
    ConfigKey::kHiddenSize,
    ConfigKey::kNumHiddenLayers,
    ConfigKey::kNumAttentionHeads,
    ConfigKey::kNumKeyValueHeads,
    ConfigKey::kHeadDim,
    ConfigKey::kValueHeadDim,
    ConfigKey::kNumExperts,
    ConfigKey::kNumExpertsPerTok,
    ConfigKey::kMoeIntermediateSize,
    ConfigKey::kMaxPositionEmbeddings,
    ConfigKey::kRmsNormEps,
    ConfigKey::kRopeTheta,
};

void missing_key(PropertyCase& property_case, std::size_t index) {
  const std::string key = gguf_key(kRequired[index]);
  property_case.describe("key", key);
  const SyntheticFile file = draw_file(property_case, SyntheticShape::kNarrow);
  const auto model = file.without_key(key).value().load();
  const bool refused = !model && model.error().kind == ErrorKind::kMissingKey &&
                       model.error().message().find(key) != std::string::npos;
  property_case.measure("accepted", refused ? 0.0 : 1.0, key);
}

double count_foreign(const Config& expected, const Config& found) {
  double foreign = 0.0;
  const auto count = [&foreign](bool same) { foreign += same ? 0.0 : 1.0; };
  count(found.hidden_size == expected.hidden_size);
  count(found.num_hidden_layers == expected.num_hidden_layers);
  count(found.num_attention_heads == expected.num_attention_heads);
  count(found.num_key_value_heads == expected.num_key_value_heads);
  count(found.head_dim == expected.head_dim);
  count(found.num_experts == expected.num_experts);
  count(found.num_experts_per_tok == expected.num_experts_per_tok);
  count(found.moe_intermediate_size == expected.moe_intermediate_size);
  count(found.vocab_size == expected.vocab_size);
  count(found.max_position_embeddings == expected.max_position_embeddings);
  count(found.rms_norm_eps == expected.rms_norm_eps);
  count(found.rope_theta == expected.rope_theta);
  count(found.norm_topk_prob == expected.norm_topk_prob);
  return foreign;
}

void values_of_file(const Backend& backend, PropertyCase& property_case) {
  SynthOptions options = synthetic_options(draw_shape(property_case), 1);
  Config& config = options.config;
  config.max_position_embeddings = property_case.integer("max_position_embeddings", 2, 300);
  config.rms_norm_eps = static_cast<float>(property_case.integer("eps * 2^20", 1, 999)) * 0x1p-20f;
  config.rope_theta = static_cast<double>(property_case.integer("rope_theta", 2, 99999));
  config.num_experts_per_tok = property_case.integer("k", 1, config.num_experts);
  config.norm_topk_prob = property_case.flag("norm_topk_prob");
  const auto file = SyntheticFile::make(options);
  if (!property_case.require_ok(file, "the synthetic file")) return;
  const auto model = file->load();
  if (!property_case.require_ok(model, "a file with all keys")) return;
  property_case.measure("foreign_values", count_foreign(config, model->config()),
                        "the configuration");
  const auto session = backend.open_session(*model, 1);
  property_case.require_ok(session, "open_session");
}

}  // namespace

Verdict falsify_metadata_required_keys(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_pinned({kId, "missing_key"}, criterion, &judge, kRequired.size(), missing_key);
  check_property(
      {kId, "values_of_file"}, with_fewer_cases(criterion, 5), &judge,
      [&](PropertyCase& property_case) { values_of_file(subject.backend, property_case); });
  return judge.verdict();
}

const FalsifierInfo& metadata_required_keys_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "A file that lacks a metadata key of the forward pass is refused with a MissingKey error "
          "that names the key, and the configuration holds the file's values.",
      .why = "A default that happens to be right for one model is silently wrong for the next.",
      .catches =
          "rms_norm_eps, rope_theta, head_dim or the number of experts taken from a default or "
          "derived from other keys.",
      .misses = "A value that is read and then not used; forward.matches_textbook sees that.",
      .source =
          "A public engine stopped after two tokens because rope theta defaulted to 1e4; fault 103 "
          "of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_metadata_required_keys,
  };
  return info;
}

}  // namespace refute
