// Claim: each stage of the subject, fed with the float64 oracle's input of that stage, is within
//   the budget of what quantized activations and a float16 cache cost: matrix products 1.2e-2
//   relative L2, the attention block 4e-2, the MoE block 3e-2, worst rows twice that; stages in
//   float32 within 5e-6; attention itself, whose cache is float16, within 1e-3; and the router
//   takes the oracle's experts on at least 98 % of the tokens outside of the tie band, which holds
//   at most 2 % of them.
// Why it must hold: it is the price of the numerics that the engine documents, stage by stage, so
//   that no stage can hide behind the error of an earlier one.
// Catches: numerics that are worse than documented (fewer bits, float16 accumulators, a coarser
//   cache) even where the emulating oracle would be changed along; any stage that is plainly wrong.
// Misses: errors below the price of int8 activations, which class B (forward.local_parity) sees.
// Source: comparison class C; expectations as in oracle_pack.trace_points.
#include "falsifiers/fidelity_local_stages.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "engine/backend.h"
#include "falsifiers/comparison_gates.h"
#include "falsifiers/oracle_pack.h"
#include "falsifiers/parity.h"
#include "falsifiers/stage_replay.h"
#include "falsifiers/traced_run.h"

namespace refute {
namespace {

constexpr std::array<MetricInfo, 12> kMetrics = {{
    {"float_relative_l2", "|y' - y| / |y| of a stage in float32", false, 5e-6},
    {"float_worst_row_relative_l2", "the same of its worst token", false, 2e-5},
    {"matmul_relative_l2", "|y' - y| / |y| of a product with int8 activations", false, 1.2e-2},
    {"matmul_worst_row_relative_l2", "the same of its worst token", false, 2.4e-2},
    {"cache_relative_l2", "|y' - y| / |y| of attention over a float16 cache", false, 1e-3},
    {"cache_worst_row_relative_l2", "the same of its worst token", false, 2e-3},
    {"attention_relative_l2", "|y' - y| / |y| of the attention block", false, 4e-2},
    {"attention_worst_row_relative_l2", "the same of its worst token", false, 8e-2},
    {"moe_relative_l2", "|y' - y| / |y| of the MoE block on the oracle's experts", false, 3e-2},
    {"moe_worst_row_relative_l2", "the same of its worst token", false, 6e-2},
    {"routes_wrong", "share of tokens outside of the tie band with other experts", false, 0.02},
    {"routes_in_band", "share of tokens whose experts are a near tie", false, 0.02},
}};

constexpr ComparisonGates gates(std::string_view relative_l2, std::string_view worst_row) {
  return {.relative_l2 = relative_l2,
          .worst_row_relative_l2 = worst_row,
          .linf_over_rms = "",
          .scale_error = "",
          .worst_row_cosine = "",
          .mean_offset_over_rms = ""};
}
constexpr ComparisonGates kFloat = gates("float_relative_l2", "float_worst_row_relative_l2");
constexpr ComparisonGates kMatmul = gates("matmul_relative_l2", "matmul_worst_row_relative_l2");
constexpr ComparisonGates kCache = gates("cache_relative_l2", "cache_worst_row_relative_l2");
constexpr ComparisonGates kAttention =
    gates("attention_relative_l2", "attention_worst_row_relative_l2");
constexpr ComparisonGates kMoe = gates("moe_relative_l2", "moe_worst_row_relative_l2");

// Whether the stage that ends at `site`, fed with everything that a pack holds, is a product;
// q_rope and k_rope are one from attn_norm, with a norm and a turn after it.
const TensorTypeInfo* product_type(const Model& model, TraceSite site) {
  if (site.point == TracePoint::kQRope)
    return matmul_weight_type(model, {TracePoint::kQ, site.layer});
  if (site.point == TracePoint::kKRope)
    return matmul_weight_type(model, {TracePoint::kK, site.layer});
  return matmul_weight_type(model, site);
}

Matrix<std::int32_t> as_ids(const Matrix<double>& values) {
  Matrix<std::int32_t> ids(values.rows(), values.columns());
  std::ranges::transform(values.flat(), ids.data(),
                         [](double id) { return static_cast<std::int32_t>(id); });
  return ids;
}

class LocalStages {
 public:
  LocalStages(const Subject& subject, Judge* judge)
      : subject_(subject), model_(*subject.model), pack_(*subject.pack), judge_(judge) {}

  void judge_all() {
    for (const TraceSite site : forward_order(model_.config())) {
      const TraceTensor* expected = pack_.find(site);
      if (expected == nullptr) continue;
      if (site.point == TracePoint::kRouterIndex) {
        judge_routes(site.layer);
      } else if (site.point == TracePoint::kRouterWeight) {
        judge_weights(site.layer);
      } else {
        judge_one(site);
      }
      if (site.point == TracePoint::kAttnOut) judge_attention_block(site);
    }
    judge_->measure("routes_wrong", share(wrong_), "all layers");
    judge_->measure("routes_in_band", share(in_band_), "all layers");
  }

 private:
  double share(std::size_t count) const {
    return static_cast<double>(count) / static_cast<double>(routed_);
  }

  std::optional<Matrix<double>> replay(TraceSite site, const TraceTensors& inputs) {
    auto found = replay_stage(subject_.backend, model_, site, {pack_.tokens(), inputs});
    if (found) return std::move(*found);
    judge_subject_error(found.error(), site.name(), judge_);
    return std::nullopt;
  }

  void judge_one(TraceSite site) {
    const auto judge_as = [&](const ComparisonGates& gates) {
      judge_stage(site, pack_.tensors(), gates, site.name());
    };
    const TensorTypeInfo* type = product_type(model_, site);
    if (site.point == TracePoint::kAttnHeads) {
      judge_as(kCache);
    } else if (site.point == TracePoint::kMoeOut) {
      judge_as(kMoe);
    } else if (type == nullptr) {
      judge_as(kFloat);
    } else {
      judge_as(kMatmul);
      if (!type->is_quantized) judge_as(kFloat);
    }
  }

  void judge_stage(TraceSite site, const TraceTensors& inputs, const ComparisonGates& gates,
                   const std::string& where) {
    const auto found = replay(site, inputs);
    if (!found) return;
    measure_comparison(pack_.find(site)->values.view(), found->view(), gates, where, judge_);
  }

  // attn_out from attn_norm alone.
  void judge_attention_block(TraceSite attn_out) {
    const TraceSite attn_norm{TracePoint::kAttnNorm, attn_out.layer};
    const TraceTensors inputs{{attn_norm, *pack_.find(attn_norm)}};
    judge_stage(attn_out, inputs, kAttention, attn_out.name() + " (attention block)");
  }

  // The subject's own logits and routes from ffn_norm. The band is as wide as the error of those
  // logits allows.
  void judge_routes(std::size_t layer) {
    const TraceSite logits_site{TracePoint::kRouterLogits, layer};
    const TraceSite index_site{TracePoint::kRouterIndex, layer};
    const TraceSite ffn_norm{TracePoint::kFfnNorm, layer};
    const auto logits = replay(logits_site, pack_.tensors());
    const auto ids = replay(index_site, {{ffn_norm, *pack_.find(ffn_norm)}});
    if (!logits || !ids) return;
    const Matrix<double>& expected_logits = pack_.find(logits_site)->values;
    double bound = 0.0;
    for (std::size_t i = 0; i < logits->size(); ++i) {
      bound = std::max(bound, std::abs(logits->flat()[i] - expected_logits.flat()[i]));
    }
    const Matrix<std::int32_t> expected_ids = as_ids(pack_.find(index_site)->values);
    const Matrix<std::int32_t> found_ids = as_ids(*ids);
    const auto routing =
        compare_routing(expected_ids.view(), found_ids.view(), expected_logits.view(), bound);
    if (!routing) return judge_subject_error(routing.error(), index_site.name(), judge_);
    routed_ += routing->tokens;
    in_band_ += routing->in_band;
    wrong_ += routing->wrong_outside;
    judge_->count_case(false);
  }

  // From the oracle's own logits, where a near tie is a matter of one float32 rounding.
  void judge_weights(std::size_t layer) {
    const TraceSite site{TracePoint::kRouterWeight, layer};
    judge_stage(site, pack_.tensors(), kFloat, site.name());
  }

  const Subject& subject_;
  const Model& model_;
  const OraclePack& pack_;
  Judge* judge_;
  std::size_t routed_ = 0;
  std::size_t in_band_ = 0;
  std::size_t wrong_ = 0;
};

}  // namespace

Verdict falsify_fidelity_local_stages(const Subject& subject, const Criterion& criterion) {
  Judge judge(kMetrics, criterion);
  LocalStages(subject, &judge).judge_all();
  return judge.verdict();
}

const FalsifierInfo& fidelity_local_stages_info() {
  static constexpr FalsifierInfo kInfo = {
      .id = "fidelity.local_stages",
      .claim =
          "Each stage, fed with the float64 oracle's input, is within the budget of quantized "
          "activations: products 1.2e-2, attention block 4e-2, MoE block 3e-2 relative L2.",
      .why = "It is the price of the documented numerics, stage by stage.",
      .catches = "Numerics worse than documented, and any stage that is plainly wrong.",
      .misses = "Errors below the price of int8 activations.",
      .source = "Comparison class C.",
      .metrics = kMetrics,
      .backends = kFastBackends,
      .needs_model = true,
      .needs_pack = true,
      .falsify = falsify_fidelity_local_stages,
  };
  return kInfo;
}

}  // namespace refute
