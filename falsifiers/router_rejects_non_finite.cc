// Claim: NaN or Inf in router logits, router weights or hidden states is a NonFinite error that
//   leaves the output untouched, never an answer.
// Why: A comparison with NaN is false, so a router that does not look for it quietly picks experts
//   and even weighs them uniformly.
// Catches: NaN logits that are skipped, sorted last or turned into uniform weights, checks that a
//   backend leaves out.
// Misses: Values that are finite and wrong.
// Source: A public engine answered a NaN router weight with uniform finite weights.
#include "falsifiers/router_rejects_non_finite.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/property.h"

namespace refute {
namespace {

constexpr std::string_view kId = "router.rejects_non_finite";

constexpr std::array<MetricInfo, 1> kMetrics = {{
    {"finite_answers", "Calls that answer, write output or name another error; fewer than one.",
     false, 0.5},
}};

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::array<double, 3> kBadValues = {std::numeric_limits<double>::quiet_NaN(), kInfinity,
                                              -kInfinity};
constexpr double kUntouched = -12345.0;

template <typename T>
bool is_non_finite_error(const Result<T>& result) {
  return !result && result.error().kind == ErrorKind::kNonFinite && !result.error().where.empty() &&
         !result.error().expected.empty() && !result.error().found.empty();
}

void in_logits(const Backend& backend, PropertyCase& property_case) {
  DrawnLogits drawn = draw_distinct_logits(property_case, 1);
  const bool normalise = property_case.flag("norm_topk_prob");
  const auto control = backend.route(drawn.logits.view(), drawn.k, normalise);
  if (!property_case.require_ok(control, "finite logits")) return;
  const std::size_t t = property_case.integer("token", 0, drawn.logits.rows() - 1);
  const std::size_t e = property_case.integer("expert", 0, drawn.logits.columns() - 1);
  drawn.logits(t, e) = property_case.pick("value", kBadValues);
  const auto routing = backend.route(drawn.logits.view(), drawn.k, normalise);
  property_case.measure("finite_answers", is_non_finite_error(routing) ? 0.0 : 1.0,
                        "logit of token " + std::to_string(t) + " expert " + std::to_string(e));
}

enum class Site { kRouterWeight, kRouterScale, kHidden };
constexpr std::array<Site, 3> kSites = {Site::kRouterWeight, Site::kRouterScale, Site::kHidden};

std::string site_name(Site site) {
  switch (site) {
    case Site::kRouterWeight:
      return "router weight";
    case Site::kRouterScale:
      return "scale of a quantized router";
    case Site::kHidden:
      return "hidden state";
  }
  return "unknown";
}

void through_the_layer(const Backend& backend, PropertyCase& property_case) {
  const Site site = property_case.pick("site", kSites, site_name);
  LayerShape shape;
  shape.num_experts = property_case.integer("num_experts", 1, 9);
  shape.num_experts_per_tok = property_case.integer("k", 1, shape.num_experts);
  shape.norm_topk_prob = property_case.flag("norm_topk_prob");
  if (site == Site::kRouterScale) shape.router = TensorType::kQ8_0;
  OwnedLayer layer = make_layer(shape, property_case.seed("layer seed"));
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 4);
  Matrix<double> x = make_activations(ActivationKind::kNormal, num_tokens, shape.hidden_size, 3);
  Matrix<double> y(num_tokens, shape.hidden_size);
  const auto run = [&] {
    std::ranges::fill(y.flat(), kUntouched);
    return backend.moe_ffn_forward_layer(layer.config, layer.view(), 0, 0, x.view(), {}, y.view());
  };
  if (!property_case.require_ok(run(), "finite values")) return;

  const double value = property_case.pick("value", kBadValues);
  if (site == Site::kRouterWeight) {
    std::vector<float> weights(shape.num_experts * shape.hidden_size, 0.25f);
    weights[property_case.integer("element", 0, weights.size() - 1)] = static_cast<float>(value);
    layer.router = store_f32(shape.num_experts, shape.hidden_size, weights);
  } else if (site == Site::kRouterScale) {
    const std::size_t row_size = layer.router.view().bytes_per_row();
    const std::size_t row = property_case.integer("expert", 0, shape.num_experts - 1);
    poison_with_nan(TensorType::kQ8_0,
                    std::span(layer.router.bytes).subspan(row * row_size, row_size));
  } else {
    x.flat()[property_case.integer("element", 0, x.size() - 1)] = value;
  }
  const bool rejected = is_non_finite_error(run());
  const bool untouched =
      std::ranges::all_of(y.flat(), [](double element) { return element == kUntouched; });
  property_case.measure("finite_answers", rejected && untouched ? 0.0 : 1.0, site_name(site));
}

}  // namespace

Verdict falsify_rejects_non_finite(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  check_property({kId, "in_logits"}, criterion, &judge,
                 [&](PropertyCase& property_case) { in_logits(subject.backend, property_case); });
  check_property({kId, "through_the_layer"}, criterion, &judge, [&](PropertyCase& property_case) {
    through_the_layer(subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& router_rejects_non_finite_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "NaN or Inf in router logits, router weights or hidden states is a NonFinite error that "
          "leaves the output untouched, never an answer.",
      .why =
          "A comparison with NaN is false, so a router that does not look for it quietly picks "
          "experts and even weighs them uniformly.",
      .catches =
          "NaN logits that are skipped, sorted last or turned into uniform weights, checks that a "
          "backend leaves out.",
      .misses = "Values that are finite and wrong.",
      .source = "A public engine answered a NaN router weight with uniform finite weights.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_rejects_non_finite,
  };
  return info;
}

}  // namespace refute
