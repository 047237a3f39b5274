// Claim: In whole forward passes of synthetic models every stage is what the backend's own op gives
//   from the stage's inputs, bit for bit; a first token's attention is its own value bit
//   for bit, keys of zero give the mean of the values so far within 2e-6, a power of two on q_proj
//   or k_proj leaves the attention within 1e-3 though it scales q or k exactly, and o_proj or
//   down_proj of zeros leave the residual stream as it was.
// Why: Each answer follows from the architecture alone: softmax of one score is 1, of equal scores
//   uniform, the norms of q and k take any factor away, and what is added is zero.
// Catches: A missing norm of q or k, a missing residual, a cache that is read or written at the
//   wrong rows, a mask that hides the own token, grouped heads taken modulo; a pass that does
//   something beside its ops, on any backend.
// Misses: Errors that keep these answers, such as a wrong rope theta.
// Source: Qwen3-MoE; faults 44, 58, 60, 61, 63 and 69 of the catalogue.
#include "falsifiers/forward_closed_forms.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "falsifiers/judge.h"
#include "falsifiers/metrics.h"
#include "falsifiers/property.h"
#include "falsifiers/stage_replay.h"
#include "falsifiers/synthetic_run.h"
#include "falsifiers/traced_run.h"
#include "kernels/quant/half.h"

namespace refute {
namespace {

constexpr std::string_view kId = "forward.closed_forms";

constexpr std::array<MetricInfo, 6> kMetrics = {{
    {"foreign_values",
     "Elements of a first token's attention that are not its value; fewer than one.", false, 0.5},
    {"foreign_stages",
     "Elements of a stage that the backend's own op does not give from the stage's inputs; fewer "
     "than one.",
     false, 0.5},
    {"mean_error", "|attention - mean of the values so far| over the largest, keys of zero.", false,
     2e-6},
    {"scale_leak", "Relative L2 change of the attention when q_proj or k_proj is scaled.", false,
     1e-3},
    {"residual_change",
     "Elements of the residual stream that adding zeros changes; fewer than one.", false, 0.5},
    {"silent_changes", "Changed weights that do not show where they must; fewer than one.", false,
     0.5},
}};

// What the cache may hold of a value: float16, or the value itself where the cache is float64.
bool is_cached(BackendId id, double value, double found) {
  const double rounded =
      static_cast<double>(float_from_half(half_from_float(static_cast<float>(value))));
  return found == rounded || (id == BackendId::kOracle && found == value);
}

// The column of v that column i of the heads reads.
std::size_t value_column(const Config& config, std::size_t i) {
  const std::size_t group_size = config.num_attention_heads / config.num_key_value_heads;
  return i / config.head_dim / group_size * config.head_dim + i % config.head_dim;
}

void first_token(const Backend& backend, PropertyCase& property_case) {
  const SyntheticFile file = draw_file(property_case, draw_shape(property_case));
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 9);
  const auto observed =
      run_synthetic(backend, file, num_tokens, property_case.seed("tokens"), property_case);
  if (!observed) return;
  const Config& config = observed->model.config();
  for (std::size_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const Matrix<double>& heads = observed->at(TracePoint::kAttnHeads, layer);
    const Matrix<double>& v = observed->at(TracePoint::kV, layer);
    double foreign = 0.0;
    for (std::size_t i = 0; i < heads.columns(); ++i) {
      if (!is_cached(backend.id(), v(0, value_column(config, i)), heads(0, i))) foreign += 1.0;
    }
    property_case.measure("foreign_values", foreign, "layer " + std::to_string(layer));
  }
}

// The forward pass is its ops, one after the other: nothing is left out, added or done twice.
void composed(const Backend& backend, PropertyCase& property_case) {
  const SyntheticFile file = draw_file(property_case, draw_shape(property_case));
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 9);
  const auto observed =
      run_synthetic(backend, file, num_tokens, property_case.seed("tokens"), property_case);
  if (!observed) return;
  const StageInputs inputs{observed->tokens, observed->run.trace};
  for (const TraceSite site : forward_order(observed->model.config())) {
    const auto again = replay_stage(backend, observed->model, site, inputs);
    if (!property_case.require_ok(again, site.name())) return;
    const Matrix<double>& found = observed->run.trace.at(site).values;
    const auto differing = count_differing_bits(found.view(), again->view());
    if (!property_case.require_ok(differing, site.name())) return;
    property_case.measure("foreign_stages", static_cast<double>(*differing), site.name());
  }
}

void zero_keys(const Backend& backend, PropertyCase& property_case) {
  const SyntheticFile file = draw_file(property_case, draw_shape(property_case))
                                 .with_tensor(TensorRole::kKProj, 0, set_to_zero())
                                 .value();
  const std::size_t num_tokens = property_case.integer("num_tokens", 2, 9);
  const auto observed =
      run_synthetic(backend, file, num_tokens, property_case.seed("tokens"), property_case);
  if (!observed) return;
  const Config& config = observed->model.config();
  const Matrix<double>& heads = observed->at(TracePoint::kAttnHeads, 0);
  const Matrix<double>& v = observed->at(TracePoint::kV, 0);
  double largest = 0.0;
  for (const double value : v.flat()) largest = std::max(largest, std::abs(value));
  double worst = 0.0;
  const auto mean_of = [&](std::size_t t, std::size_t i, bool half) {
    double sum = 0.0;
    for (std::size_t s = 0; s <= t; ++s) {
      const double value = v(s, value_column(config, i));
      sum += half ? static_cast<double>(float_from_half(half_from_float(static_cast<float>(value))))
                  : value;
    }
    return sum / static_cast<double>(t + 1);
  };
  for (std::size_t t = 0; t < num_tokens; ++t) {
    for (std::size_t i = 0; i < heads.columns(); ++i) {
      double error = std::abs(heads(t, i) - mean_of(t, i, true));
      if (backend.id() == BackendId::kOracle) {
        error = std::min(error, std::abs(heads(t, i) - mean_of(t, i, false)));
      }
      if (!(error / largest <= worst)) worst = error / largest;
    }
  }
  property_case.measure("mean_error", worst, "keys of zero");
}

constexpr std::array<double, 4> kFactors = {2.0, 4.0, 8.0, 32.0};

// Scaling down would let eps show.
void scaled(const Backend& backend, TensorRole role, TracePoint product,
            PropertyCase& property_case) {
  const SyntheticFile file = draw_file(property_case, draw_shape(property_case));
  const double factor = property_case.pick("factor", kFactors);
  const std::size_t num_tokens = property_case.integer("num_tokens", 2, 9);
  const std::uint64_t seed = property_case.seed("tokens");
  const auto before = run_synthetic(backend, file, num_tokens, seed, property_case);
  if (!before) return;
  const std::size_t layer =
      property_case.integer("layer", 0, before->model.config().num_hidden_layers - 1);
  const auto after = run_synthetic(
      backend, file.with_tensor(role, layer, multiplied_by(static_cast<float>(factor))).value(),
      num_tokens, seed, property_case);
  if (!after) return;
  const auto is_scaled = [factor](double a, double b) { return b == a * factor; };
  const bool reached = std::ranges::equal(before->at(product, layer).flat(),
                                          after->at(product, layer).flat(), is_scaled);
  const std::string where = "blk." + std::to_string(layer) + "." +
                            std::string(trace_point_name(product)) + " times " +
                            std::to_string(factor);
  property_case.measure("silent_changes", reached ? 0.0 : 1.0, where);
  const auto comparison = compare(before->at(TracePoint::kAttnHeads, layer).view(),
                                  after->at(TracePoint::kAttnHeads, layer).view());
  if (!property_case.require_ok(comparison, where)) return;
  property_case.measure("scale_leak", comparison->relative_l2, where);
}

double count_changed(const Matrix<double>& before, const Matrix<double>& after) {
  double changed = 0.0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (before.flat()[i] != after.flat()[i]) changed += 1.0;
  }
  return changed;
}

// o_proj of zeros: what goes into the layer comes out of its attention; down_proj of zeros: what
// goes into the MoE block comes out of the layer. With the weights as they were, as a control, it
// does not.
void zeroed(const Backend& backend, PropertyCase& property_case) {
  const SyntheticFile file = draw_file(property_case, draw_shape(property_case));
  const bool attention = property_case.flag("o_proj");
  const std::size_t num_tokens = property_case.integer("num_tokens", 1, 9);
  const std::uint64_t seed = property_case.seed("tokens");
  const auto control = run_synthetic(backend, file, num_tokens, seed, property_case);
  if (!control) return;
  const std::size_t layer =
      property_case.integer("layer", 0, control->model.config().num_hidden_layers - 1);
  const TensorRole role = attention ? TensorRole::kOProj : TensorRole::kDownProj;
  const auto observed = run_synthetic(backend, file.with_tensor(role, layer, set_to_zero()).value(),
                                      num_tokens, seed, property_case);
  if (!observed) return;
  const auto change = [&](const SyntheticRun& run) {
    if (!attention) {
      return count_changed(run.at(TracePoint::kAttnResidual, layer),
                           run.at(TracePoint::kFfnResidual, layer));
    }
    const Matrix<double>& input = layer == 0 ? run.at(TracePoint::kEmbedding, 0)
                                             : run.at(TracePoint::kFfnResidual, layer - 1);
    return count_changed(input, run.at(TracePoint::kAttnResidual, layer));
  };
  const std::string where =
      std::string(attention ? "o_proj" : "down_proj") + " of layer " + std::to_string(layer);
  property_case.measure("residual_change", change(*observed), where);
  property_case.measure("silent_changes", change(*control) > 0.0 ? 0.0 : 1.0, where);
}

}  // namespace

Verdict falsify_forward_closed_forms(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  // A case makes and runs whole models.
  const Criterion fewer = with_fewer_cases(criterion, 34);
  const auto check = [&](std::string_view name, auto property) {
    check_property({kId, name}, fewer, &judge,
                   [&](PropertyCase& property_case) { property(subject.backend, property_case); });
  };
  check("first_token", first_token);
  check("composed", composed);
  check("zero_keys", zero_keys);
  check("scaled_q", [](const Backend& backend, PropertyCase& property_case) {
    scaled(backend, TensorRole::kQProj, TracePoint::kQ, property_case);
  });
  check("scaled_k", [](const Backend& backend, PropertyCase& property_case) {
    scaled(backend, TensorRole::kKProj, TracePoint::kK, property_case);
  });
  check("zeroed", zeroed);
  return judge.verdict();
}

const FalsifierInfo& forward_closed_forms_info() {
  static const FalsifierInfo info = {
      .id = kId,
      .claim =
          "In whole forward passes a first token's attention is its own value bit for bit, keys of "
          "zero give the mean of the values so far within 2e-6, a power of two on q_proj or k_proj "
          "leaves the attention within 1e-3, and o_proj or down_proj of zeros leave the residual "
          "stream as it was.",
      .why =
          "Softmax of one score is 1 and of equal scores uniform, the norms of q and k take any "
          "factor away, and what is added is zero.",
      .catches =
          "A missing norm of q or k, a missing residual, a cache that is read or written at the "
          "wrong rows, a mask that hides the own token, grouped heads taken modulo.",
      .misses = "Errors that keep these answers, such as a wrong rope theta.",
      .source = "Qwen3-MoE; faults 44, 58, 60, 61, 63 and 69 of the catalogue.",
      .metrics = kMetrics,
      .backends = kAllBackends,
      .needs_model = false,
      .needs_pack = false,
      .falsify = falsify_forward_closed_forms,
  };
  return info;
}

}  // namespace refute
