// Claim: Every step of moe_ffn_forward_layer, as traced, agrees within relative L2 5e-6 with
//   float64 fed the input of that step, with routes chosen and forced; the experts are those of the
//   traced logits, and tracing changes no bit.
// Why: Fed the same bits, each step differs by rounding alone, so an error shows at the step that
//   makes it, before routing and int8 rounding amplify it.
// Catches: Any error inside the block: router, pairing, expert offsets, types per matrix, the
//   activation, the weighted sum, forced routes ignored, a trace of other numbers than those used.
// Misses: Errors that matmul and its oracle share.
// Source: Qwen3MoeSparseMoeBlock; class B of the comparison classes, local parity.
#include "falsifiers/moe_matches_emulated_oracle.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "falsifiers/generators.h"
#include "falsifiers/judge.h"
#include "falsifiers/moe_run.h"
#include "falsifiers/owned_weights.h"
#include "falsifiers/parity.h"
#include "falsifiers/property.h"
#include "falsifiers/routing_checks.h"
#include "falsifiers/seeded_random.h"

namespace refute {
namespace {

constexpr std::string_view kId = "moe.matches_emulated_oracle";

constexpr auto kMetrics = parity_and<3>({{
    kDifferingElements,
    {"weight_error", "|weight - closed form| over closed form * 2^-24 (8 + spread of the logits).",
     false, 4.0},
    {"misplaced_ids", "Ranks that hold another expert than the traced logits say; fewer than one.",
     false, 0.5},
}});

// One matrix of every expert applied to the slots that go there; inputs [num_tokens * k, columns].
Result<Matrix<double>> per_expert(const Backend& reference, const OwnedStack& stack,
                                  std::span<const std::int32_t> ids, const Matrix<double>& inputs) {
  Matrix<double> result(inputs.rows(), stack.rows);
  for (std::size_t slot = 0; slot < inputs.rows(); ++slot) {
    const WeightView weight = stack.expert(static_cast<std::size_t>(ids[slot]));
    auto y = reference.matmul(weight, {inputs.row(slot).data(), 1, inputs.columns()});
    if (!y) return y.error();
    std::ranges::copy(y->row(0), result.row(slot).begin());
  }
  return result;
}

// Each token's row once for each of its experts.
Matrix<double> repeat_rows(const Matrix<double>& x, std::size_t k) {
  Matrix<double> repeated(x.rows() * k, x.columns());
  for (std::size_t slot = 0; slot < repeated.rows(); ++slot) {
    std::ranges::copy(x.row(slot / k), repeated.row(slot).begin());
  }
  return repeated;
}

// Distinct experts for every token, in no order.
ForcedRoutes make_routes(const Config& config, std::size_t num_tokens, std::uint64_t seed) {
  ForcedRoutes routes;
  Matrix<std::int32_t>& ids = routes.ids.emplace_back(num_tokens, config.num_experts_per_tok);
  for (std::size_t t = 0; t < num_tokens; ++t) {
    const auto order = make_permutation(config.num_experts, mix_seed(seed, t));
    for (std::size_t r = 0; r < config.num_experts_per_tok; ++r) {
      ids(t, r) = static_cast<std::int32_t>(order[r]);
    }
  }
  return routes;
}

// The worst |weight - closed form|, over what rounding a logit costs its exponential: forced routes
// may go to experts of tiny probability.
double weight_error(std::span<const double> logits, std::span<const double> closed,
                    std::span<const double> weights) {
  const auto [low, high] = std::ranges::minmax(logits);
  const double unit = 0x1p-24 * (8.0 + high - low);
  double worst = 0.0;
  for (std::size_t r = 0; r < closed.size(); ++r) {
    // Below 1e-30 the exponential may be a denormal.
    const double error = std::abs(weights[r] - closed[r]) / (unit * closed[r] + 1e-30);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

void measure_router(const Backend& reference, const OwnedLayer& layer, const Matrix<double>& x,
                    const MoeRun& run, const ForcedRoutes* forced, PropertyCase& property_case) {
  const auto logits = reference.matmul(layer.router.view(), x.view());
  if (!property_case.require_ok(logits, "oracle router")) return;
  // Few experts may cancel; from 16 on a row has a size to compare with.
  if (layer.config.num_experts >= 16) {
    measure_parity(property_case, logits->view(), run.logits.view(), "router logits");
  }
  for (std::size_t t = 0; t < run.ids.rows(); ++t) {
    const auto expected =
        forced != nullptr
            ? std::vector<std::int32_t>(forced->ids[0].row(t).begin(), forced->ids[0].row(t).end())
            : stable_top_k(run.logits.row(t), run.ids.columns());
    property_case.measure("misplaced_ids", count_differing(expected, run.ids.row(t)),
                          "token " + std::to_string(t));
    const auto closed =
        closed_form_weights(run.logits.row(t), expected, layer.config.norm_topk_prob);
    property_case.measure("weight_error",
                          weight_error(run.logits.row(t), closed, run.weights.row(t)),
                          "token " + std::to_string(t));
  }
}

void measure_experts(const Backend& reference, const OwnedLayer& layer, const Matrix<double>& x,
                     const MoeRun& run, PropertyCase& property_case) {
  const auto ids = run.ids.flat();
  const Matrix<double> inputs = repeat_rows(x, layer.config.num_experts_per_tok);
  const auto gate = per_expert(reference, layer.gate_proj, ids, inputs);
  const auto up = per_expert(reference, layer.up_proj, ids, inputs);
  const auto inner = reference.swiglu(run.gate.view(), run.up.view());
  const auto out = per_expert(reference, layer.down_proj, ids, run.inner);
  const auto sum = reference.combine(run.out.view(), run.weights.view());
  if (!property_case.require_ok(gate, "oracle gate_proj") ||
      !property_case.require_ok(up, "oracle up_proj") ||
      !property_case.require_ok(inner, "oracle swiglu") ||
      !property_case.require_ok(out, "oracle down_proj") ||
      !property_case.require_ok(sum, "oracle combine")) {
    return;
  }
  measure_parity(property_case, gate->view(), run.gate.view(), "expert gate");
  measure_parity(property_case, up->view(), run.up.view(), "expert up");
  measure_parity(property_case, inner->view(), run.inner.view(), "expert swiglu");
  measure_parity(property_case, out->view(), run.out.view(), "expert out");
  measure_parity(property_case, sum->view(), run.y.view(), "moe out");
  measure_equal_bits(property_case, run.traced_y.view(), run.y.view(), "moe out as traced");
}

void step_by_step(const Backend& reference, const Backend& backend, PropertyCase& property_case) {
  const OwnedLayer layer = draw_layer(property_case);
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 4);
  const Matrix<double> x = draw_activations(property_case, num_tokens, layer.config.hidden_size);
  ForcedRoutes routes;
  const bool forced = property_case.flag("forced");
  if (forced) routes = make_routes(layer.config, num_tokens, property_case.seed("routes"));
  const ForcedRoutes* forced_routes = forced ? &routes : nullptr;
  const auto run = run_moe(backend, layer, x, forced_routes);
  if (!property_case.require_ok(run, "moe_ffn_forward_layer")) return;
  measure_router(reference, layer, x, *run, forced_routes, property_case);
  measure_experts(reference, layer, x, *run, property_case);

  Matrix<double> untraced(x.rows(), x.columns());
  ForwardOptions options;
  options.forced_routes = forced_routes;
  const auto done = backend.moe_ffn_forward_layer(layer.config, layer.view(), 0, 0, x.view(),
                                                  options, untraced.view());
  if (!property_case.require_ok(done, "moe_ffn_forward_layer untraced")) return;
  measure_equal_bits(property_case, run->y.view(), untraced.view(), "moe out untraced");
}

}  // namespace

Verdict falsify_moe_matches_emulated_oracle(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  const auto oracle = make_oracle_backend(ActivationScheme::kEmulatedInt8);
  check_property({kId, "step_by_step"}, criterion, &judge, [&](PropertyCase& property_case) {
    step_by_step(*oracle, subject.backend, property_case);
  });
  return judge.verdict();
}

const FalsifierInfo& moe_matches_emulated_oracle_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "Every step of moe_ffn_forward_layer, as traced, agrees within relative L2 5e-6 with "
          "float64 fed the input of that step, with routes chosen and forced; the experts are "
          "those of the traced logits, and tracing changes no bit.",
      .why =
          "Fed the same bits, each step differs by rounding alone, so an error shows at the step "
          "that makes it, before routing and int8 rounding amplify it.",
      .catches =
          "Any error inside the block: router, pairing, expert offsets, types per matrix, the "
          "activation, the weighted sum, forced routes ignored, a trace of other numbers than "
          "those used.",
      .misses = "Errors that matmul and its oracle share.",
      .source = "Qwen3MoeSparseMoeBlock; class B of the comparison classes, local parity.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_moe_matches_emulated_oracle,
  };
  return info;
}

}  // namespace refute
