// Claim: Permuting experts with their router rows permutes the ids and keeps the output within
//   5e-6, identical experts give expert(x), k = num_experts the dense mixture; a row alone equals
//   that row in a batch of up to 129 tokens, also with all tokens at one expert; and NaN in experts
//   that no token chose changes no bit while a change of a chosen one shows in its tokens and no
//   others.
// Why: Experts are a set: their numbering carries no meaning, and a token reads the weights of its
//   own experts only.
// Catches: Expert offsets that wrap, uint8 or int8 ids, an accumulator left from another token,
//   experts with no tokens, all tokens to one expert, a capacity that overflows.
// Misses: Errors inside one expert that respect all symmetries.
// Source: Symmetries of a mixture of experts; faults 40 to 43, 79, 81 and 98 of the catalogue.
#include "falsifiers/moe_invariances.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/metrics.h"
#include "falsifiers/moe_run.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"
#include "falsifiers/routing_checks.h"

namespace refute {
namespace {

constexpr std::string_view kId = "moe.invariances";

constexpr std::array<MetricInfo, 4> kMetrics = {{
    {"relative_l2", "Euclidean norm of the difference over that of what it should be.", false,
     5e-6},
    {"misplaced_ids", "Ranks that do not follow a permutation of experts; fewer than one.", false,
     0.5},
    kDifferingElements,
    {"silent_experts", "Tokens that do not follow a change of their own expert; fewer than one.",
     false, 0.5},
}};

void measure_close(PropertyCase& property_case, const Matrix<double>& expected,
                   const Matrix<double>& found, std::string_view where) {
  const auto comparison = compare(expected.view(), found.view());
  if (!property_case.require_ok(comparison, where)) return;
  property_case.measure("relative_l2", comparison->relative_l2, where);
}

Matrix<double> draw_tokens(PropertyCase& property_case, const OwnedLayer& layer) {
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 4);
  return make_activations(ActivationKind::kNormal, num_tokens, layer.config.hidden_size,
                          property_case.seed("x seed"));
}

// Expert e of the result is expert source[e] of `stack`; the router is a stack of single rows.
void permute(std::vector<std::byte>* bytes, const std::vector<std::size_t>& source) {
  const std::vector<std::byte> before = *bytes;
  const std::size_t size = bytes->size() / source.size();
  for (std::size_t e = 0; e < source.size(); ++e) {
    std::ranges::copy(std::span(before).subspan(source[e] * size, size),
                      bytes->begin() + static_cast<std::ptrdiff_t>(e * size));
  }
}

void permuted_experts(const Backend& backend, PropertyCase& property_case) {
  OwnedLayer layer = draw_layer(property_case);
  const Matrix<double> x = draw_tokens(property_case, layer);
  const auto before = run_moe(backend, layer, x);
  const auto source = make_permutation(layer.config.num_experts, property_case.seed("permutation"));
  for (auto* bytes : {&layer.router.bytes, &layer.gate_proj.bytes, &layer.up_proj.bytes,
                      &layer.down_proj.bytes}) {
    permute(bytes, source);
  }
  const auto after = run_moe(backend, layer, x);
  if (!property_case.require_ok(before, "moe_ffn_forward_layer") ||
      !property_case.require_ok(after, "moe_ffn_forward_layer")) {
    return;
  }
  for (std::size_t t = 0; t < x.rows(); ++t) {
    std::vector<std::int32_t> back;
    for (const std::int32_t id : after->ids.row(t)) {
      back.push_back(static_cast<std::int32_t>(source[static_cast<std::size_t>(id)]));
    }
    property_case.measure("misplaced_ids", count_differing(before->ids.row(t), back),
                          "token " + std::to_string(t));
  }
  measure_close(property_case, before->y, after->y, "permuted experts");
  for (const std::int32_t id : before->ids.flat()) {
    const auto e = static_cast<std::size_t>(id);
    if (source[e] != e) property_case.mark_interesting();
  }
}

void identical_experts(const Backend& backend, PropertyCase& property_case) {
  OwnedLayer layer = draw_layer(property_case);
  layer.config.norm_topk_prob = true;
  for (OwnedStack* stack : {&layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
    for (std::size_t e = 1; e < stack->num_experts; ++e) {
      std::ranges::copy(stack->expert_bytes(0), stack->expert_bytes(e).begin());
    }
  }
  const Matrix<double> x = draw_tokens(property_case, layer);
  const auto run = run_moe(backend, layer, x);
  if (!property_case.require_ok(run, "moe_ffn_forward_layer")) return;
  Matrix<double> expected(x.rows(), x.columns());
  for (std::size_t t = 0; t < x.rows(); ++t) {
    const auto done = run_expert(backend, layer, 0, x.row(t), expected.row(t));
    if (!property_case.require_ok(done, "expert_swiglu")) return;
  }
  measure_close(property_case, expected, run->y, "identical experts");
  if (layer.config.num_experts_per_tok > 1) property_case.mark_interesting();
}

void dense_mixture(const Backend& backend, PropertyCase& property_case) {
  OwnedLayer layer = draw_layer(property_case);
  layer.config.num_experts_per_tok = layer.config.num_experts;
  const Matrix<double> x = draw_tokens(property_case, layer);
  const auto run = run_moe(backend, layer, x);
  if (!property_case.require_ok(run, "moe_ffn_forward_layer")) return;
  Matrix<double> expected(x.rows(), x.columns());
  std::vector<double> out(x.columns());
  for (std::size_t t = 0; t < x.rows(); ++t) {
    const std::vector<double> probability = softmax(run->logits.row(t));
    for (std::size_t e = 0; e < layer.config.num_experts; ++e) {
      const auto done = run_expert(backend, layer, e, x.row(t), out);
      if (!property_case.require_ok(done, "expert_swiglu")) return;
      for (std::size_t i = 0; i < out.size(); ++i) expected(t, i) += probability[e] * out[i];
    }
  }
  measure_close(property_case, expected, run->y, "dense mixture");
  if (layer.config.num_experts > 1) property_case.mark_interesting();
}

void row_alone(const Backend& backend, PropertyCase& property_case) {
  const OwnedLayer layer = draw_layer(property_case);
  const Matrix<double> x = draw_tokens(property_case, layer);
  const auto batch = run_moe(backend, layer, x);
  const std::size_t t = property_case.integer("token", 0, x.rows() - 1);
  const Matrix<double> alone(1, x.columns(), {x.row(t).begin(), x.row(t).end()});
  const auto single = run_moe(backend, layer, alone);
  if (!property_case.require_ok(batch, "moe_ffn_forward_layer") ||
      !property_case.require_ok(single, "moe_ffn_forward_layer of one token")) {
    return;
  }
  measure_equal_bits(property_case, {batch->y.row(t).data(), 1, x.columns()}, single->y.view(),
                     "token " + std::to_string(t) + " alone");
  if (x.rows() > 1) property_case.mark_interesting();
}

constexpr std::array<std::size_t, 13> kTokens = {1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 129};
// Where routes are forced; enough on both sides of tiles.
constexpr std::array<std::size_t, 4> kCornerTokens = {1, 9, 33, 129};
enum class Corner { kRouter, kOneExpert, kFirstAndLast };

// Routes of a corner: all tokens to one expert, or in turns to the first and the last, so that all
// others have none.
ForcedRoutes corner_routes(Corner corner, std::size_t num_tokens, std::size_t num_experts) {
  ForcedRoutes routes;
  routes.ids.emplace_back(num_tokens, 1);
  const auto last = static_cast<std::int32_t>(num_experts - 1);
  for (std::size_t t = 0; t < num_tokens; ++t) {
    routes.ids[0](t, 0) = corner == Corner::kOneExpert ? last : t % 2 == 0 ? 0 : last;
  }
  return routes;
}

// Batches around the tiles that kernels have. With the router's choice each row is compared with
// the row alone; where routes are forced, each is expert(x) with the weight traced.
void pinned_batch(const Backend& backend, PropertyCase& property_case, std::size_t index) {
  const std::size_t forced = index - std::min(index, kTokens.size());
  const bool by_router = index < kTokens.size();
  const std::size_t num_tokens =
      by_router ? kTokens[index] : kCornerTokens[forced % kCornerTokens.size()];
  const Corner corner = by_router                       ? Corner::kRouter
                        : forced < kCornerTokens.size() ? Corner::kOneExpert
                                                        : Corner::kFirstAndLast;
  LayerShape shape;
  shape.hidden_size = 64;
  shape.num_experts = 8;
  shape.num_experts_per_tok = corner == Corner::kRouter ? 3 : 1;
  shape.gate_proj = TensorType::kQ8_0;
  shape.up_proj = TensorType::kF16;
  shape.down_proj = TensorType::kQ8_0;
  const OwnedLayer layer = make_layer(shape, property_case.seed("layer seed"));
  const Matrix<double> x = make_activations(ActivationKind::kNormal, num_tokens, shape.hidden_size,
                                            property_case.seed("x seed"));
  const ForcedRoutes routes = corner_routes(corner, num_tokens, shape.num_experts);
  const auto batch = run_moe(backend, layer, x, corner == Corner::kRouter ? nullptr : &routes);
  if (!property_case.require_ok(batch, "moe_ffn_forward_layer")) return;
  const std::string where = " of " + std::to_string(num_tokens);
  if (corner == Corner::kRouter) {
    // The first and last rows of the last tile of each usual height, and the last row.
    for (const std::size_t tile : {std::size_t{1}, std::size_t{8}, std::size_t{32}, num_tokens}) {
      const std::size_t t = (num_tokens - 1) / tile * tile;
      const Matrix<double> alone(1, x.columns(), {x.row(t).begin(), x.row(t).end()});
      const auto single = run_moe(backend, layer, alone);
      if (!property_case.require_ok(single, "moe_ffn_forward_layer of one token")) return;
      measure_equal_bits(property_case, {batch->y.row(t).data(), 1, x.columns()}, single->y.view(),
                         "token " + std::to_string(t) + where);
    }
    return;
  }
  Matrix<double> expected(num_tokens, x.columns());
  for (std::size_t t = 0; t < num_tokens; ++t) {
    const auto expert = static_cast<std::size_t>(routes.ids[0](t, 0));
    const auto done = run_expert(backend, layer, expert, x.row(t), expected.row(t));
    if (!property_case.require_ok(done, "expert_swiglu")) return;
    for (double& value : expected.row(t)) value *= batch->weights(t, 0);
  }
  measure_close(
      property_case, expected, batch->y,
      (corner == Corner::kOneExpert ? "one expert for all tokens" : "two experts") + where);
}

bool chose(const MoeRun& run, std::size_t token, std::size_t expert) {
  return std::ranges::find(run.ids.row(token), static_cast<std::int32_t>(expert)) !=
         run.ids.row(token).end();
}

void unchosen_experts(const Backend& backend, PropertyCase& property_case) {
  OwnedLayer layer = draw_layer(property_case);
  const Matrix<double> x = draw_tokens(property_case, layer);
  const auto before = run_moe(backend, layer, x);
  if (!property_case.require_ok(before, "moe_ffn_forward_layer")) return;
  for (std::size_t e = 0; e < layer.config.num_experts; ++e) {
    bool chosen = false;
    for (std::size_t t = 0; t < x.rows(); ++t) chosen = chosen || chose(*before, t, e);
    if (chosen) continue;
    property_case.mark_interesting();
    for (OwnedStack* stack : {&layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
      poison_with_nan(stack->type, stack->expert_bytes(e));
    }
  }
  const auto after = run_moe(backend, layer, x);
  if (!property_case.require_ok(after, "moe_ffn_forward_layer")) return;
  measure_equal_bits(property_case, before->y.view(), after->y.view(), "NaN in unchosen experts");
}

void chosen_expert(const Backend& backend, PropertyCase& property_case) {
  OwnedLayer layer = draw_layer(property_case);
  const Matrix<double> x = draw_tokens(property_case, layer);
  const auto before = run_moe(backend, layer, x);
  if (!property_case.require_ok(before, "moe_ffn_forward_layer")) return;
  const std::size_t rank = property_case.integer("rank", 0, layer.config.num_experts_per_tok - 1);
  const auto expert = static_cast<std::size_t>(before->ids(0, rank));
  multiply_scales(layer.down_proj.type, layer.down_proj.expert_bytes(expert), 2.0f);
  const auto after = run_moe(backend, layer, x);
  if (!property_case.require_ok(after, "moe_ffn_forward_layer")) return;
  for (std::size_t t = 0; t < x.rows(); ++t) {
    const std::string where = "expert " + std::to_string(expert) + " token " + std::to_string(t);
    const bool same = std::ranges::equal(before->y.row(t), after->y.row(t));
    if (chose(*before, t, expert)) {
      property_case.measure("silent_experts", same ? 1.0 : 0.0, where);
    } else {
      property_case.measure("differing_elements", same ? 0.0 : 1.0, where);
    }
  }
}

}  // namespace

Verdict falsify_moe_invariances(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  // A case runs a whole block several times.
  const Criterion fewer = with_fewer_cases(criterion, 12);
  const auto check = [&](std::string_view name, double least_interesting, auto property) {
    check_property({kId, name, least_interesting}, fewer, &judge,
                   [&](PropertyCase& property_case) { property(subject.backend, property_case); });
  };
  check("permuted_experts", 0.5, permuted_experts);
  check("identical_experts", 0.3, identical_experts);
  check("dense_mixture", 0.5, dense_mixture);
  check("row_alone", 0.3, row_alone);
  check_pinned({kId, "pinned_batch"}, criterion, &judge, kTokens.size() + 2 * kCornerTokens.size(),
               [&](PropertyCase& property_case, std::size_t index) {
                 pinned_batch(subject.backend, property_case, index);
               });
  check("unchosen_experts", 0.1, unchosen_experts);
  check("chosen_expert", 0.0, chosen_expert);
  return judge.verdict();
}

const FalsifierInfo& moe_invariances_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Permuting experts with their router rows permutes the ids and keeps the output within "
          "5e-6, identical experts give expert(x), k = num_experts the dense mixture; a row alone "
          "equals that row in a batch, and NaN in experts that no token chose changes no bit while "
          "a change of a chosen one shows in its tokens and no others.",
      .why =
          "Experts are a set: their numbering carries no meaning, and a token reads the weights of "
          "its own experts only.",
      .catches =
          "Expert offsets that wrap, uint8 or int8 ids, an accumulator left from another token, "
          "experts with no tokens, all tokens to one expert, a capacity that overflows.",
      .misses = "Errors inside one expert that respect all symmetries.",
      .source =
          "Symmetries of a mixture of experts; faults 40 to 43, 79, 81 and 98 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_moe_invariances,
  };
  return info;
}

}  // namespace refute
