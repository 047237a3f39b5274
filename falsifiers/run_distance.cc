#include "falsifiers/run_distance.h"

#include <cmath>
#include <utility>

#include "engine/backend_id.h"
#include "falsifiers/registry.h"
#include "falsifiers/stage_replay.h"
#include "kernels/check.h"

namespace refute {
namespace {

constexpr std::string_view kPackTracePoints = "oracle_pack.trace_points";
constexpr std::string_view kLocalParity = "forward.local_parity";
constexpr std::string_view kChainedParity = "forward.chained_parity";
constexpr std::string_view kLocalStages = "fidelity.local_stages";
constexpr std::string_view kFidelityLogits = "fidelity.logits";
constexpr std::string_view kRepeats = "determinism.repeats";

const MetricInfo& ceiling(std::string_view falsifier, std::string_view metric) {
  const FalsifierInfo* info = find_falsifier(falsifier);
  CHECK(info != nullptr);
  for (const MetricInfo& candidate : info->metrics) {
    if (candidate.name == metric) return candidate;
  }
  CHECK(false && "the falsifier has no such metric");
  return info->metrics.front();
}

class Readings {
 public:
  Readings(std::string_view falsifier, TraceSite site) : falsifier_(falsifier), site_(site) {}

  void add(std::string_view metric, double value, std::size_t row) {
    const MetricInfo& info = ceiling(falsifier_, metric);
    readings_.push_back({.metric = std::string(metric),
                         .worst = value,
                         .threshold = info.ceiling,
                         .larger_is_better = info.larger_is_better,
                         .where = site_.name() + " row " + std::to_string(row)});
  }
  // relative_l2 and that of the worst row, both with a prefix.
  void add_l2(const std::string& prefix, const Comparison& distances, double divisor = 1.0) {
    add(prefix + "relative_l2", distances.relative_l2 / divisor, distances.worst_row);
    add(prefix + "worst_row_relative_l2", distances.worst_row_relative_l2 / divisor,
        distances.worst_row);
  }
  // The other distances of class B and D.
  void add_shape(const std::string& prefix, const Comparison& distances) {
    add(prefix + "linf_over_rms", distances.linf_over_rms, distances.linf_row);
    add(prefix + "scale_error", distances.scale_error, distances.worst_row);
    add(prefix + "worst_row_cosine", distances.worst_row_cosine, distances.worst_cosine_row);
  }
  std::vector<MetricReading> take() { return std::move(readings_); }

 private:
  std::string_view falsifier_;
  TraceSite site_;
  std::vector<MetricReading> readings_;
};

// The layers that a value went through, the current one included.
double layers_until(TraceSite site, std::size_t num_hidden_layers) {
  if (is_per_layer(site.point)) return static_cast<double>(site.layer + 1);
  const bool first = site.point == TracePoint::kEmbedding;
  return first ? 1.0 : static_cast<double>(num_hidden_layers);
}

// The product that the stage ends with. q_rope and k_rope are one when they are composed.
const TensorTypeInfo* product_type(TraceSite site, const LocalStage& stage) {
  if (stage.composed && site.point == TracePoint::kQRope) site.point = TracePoint::kQ;
  if (stage.composed && site.point == TracePoint::kKRope) site.point = TracePoint::kK;
  return matmul_weight_type(*stage.model, site);
}

// The price of quantized activations, stage by stage.
std::string fidelity_prefix(TraceSite site, const LocalStage& stage) {
  if (site.point == TracePoint::kAttnHeads) return "cache_";
  if (site.point == TracePoint::kAttnOut && stage.composed) return "attention_";
  if (site.point == TracePoint::kMoeOut && stage.composed) return "moe_";
  const TensorTypeInfo* type = product_type(site, stage);
  return type != nullptr && type->is_quantized ? "matmul_" : "float_";
}

}  // namespace

std::string_view comparison_class_name(ComparisonClass comparison_class) {
  switch (comparison_class) {
    case ComparisonClass::kA:
      return "A";
    case ComparisonClass::kB:
      return "B";
    case ComparisonClass::kC:
      return "C";
    case ComparisonClass::kD:
      return "D";
    case ComparisonClass::kE:
      return "E";
  }
  return "";
}

Arithmetic arithmetic_of(const TraceOrigin& origin) {
  if (origin.backend == backend_name(BackendId::kOracle) || origin.backend == kExpectationsBackend)
    return Arithmetic::kExact;
  return origin.backend == kEmulatedOracleBackend ? Arithmetic::kEmulated : Arithmetic::kFast;
}

Yardstick choose_yardstick(const TraceOrigin& reference, const TraceOrigin& candidate,
                           ErrorScope scope) {
  const Arithmetic one = arithmetic_of(reference);
  const Arithmetic other = arithmetic_of(candidate);
  const bool local = scope == ErrorScope::kLocal;
  if (reference.backend == candidate.backend) {
    return {ComparisonClass::kE, scope, kRepeats, "the same backend: no bit may differ"};
  }
  if (one == Arithmetic::kExact && other == Arithmetic::kExact) {
    return {ComparisonClass::kA, scope, local ? kLocalParity : kPackTracePoints,
            "float64 on both sides, through float32"};
  }
  if (one == Arithmetic::kExact || other == Arithmetic::kExact) {
    return {ComparisonClass::kC, scope, local ? kLocalStages : kFidelityLogits,
            "quantized activations against none"};
  }
  if (!local) {
    return {ComparisonClass::kD, scope, kChainedParity,
            "the same quantization, chained through all stages"};
  }
  if (one == Arithmetic::kEmulated) {
    return {ComparisonClass::kD, scope, kChainedParity,
            "the same quantization, of float64 inputs that are rounded first"};
  }
  return {ComparisonClass::kB, scope, kLocalParity,
          "the same quantization of bit-identical inputs"};
}

std::vector<MetricReading> distance_readings(const Yardstick& yardstick, TraceSite site,
                                             std::size_t num_hidden_layers, const LocalStage& stage,
                                             const Comparison& distances) {
  Readings readings(yardstick.falsifier, site);
  const bool local = yardstick.scope == ErrorScope::kLocal;
  const double root = std::sqrt(layers_until(site, num_hidden_layers));
  switch (yardstick.comparison_class) {
    case ComparisonClass::kA:
      readings.add_l2("", distances);
      break;
    case ComparisonClass::kB:
      readings.add_l2("", distances);
      readings.add_shape("", distances);
      break;
    case ComparisonClass::kC:
      if (local) {
        CHECK(stage.model != nullptr);
        readings.add_l2(fidelity_prefix(site, stage), distances);
      } else {
        readings.add_l2("", distances, root);
        if (site.point == TracePoint::kLogits) {
          const auto layers = static_cast<double>(num_hidden_layers);
          readings.add("scale_error", distances.scale_error, distances.worst_row);
          readings.add("cosine_deficit", (1.0 - distances.worst_row_cosine) / layers,
                       distances.worst_cosine_row);
        }
      }
      break;
    case ComparisonClass::kD:
      if (local) {
        readings.add_l2("block_", distances);
        readings.add_shape("block_", distances);
      } else {
        readings.add_l2("chain_", distances, root);
      }
      break;
    case ComparisonClass::kE:
      break;  // Bits alone.
  }
  return readings.take();
}

double routing_bound(const Yardstick& yardstick) {
  // Elsewhere all tokens must take the same experts.
  return yardstick.comparison_class == ComparisonClass::kC
             ? ceiling(yardstick.falsifier, "routes_wrong").ceiling
             : 0.0;
}

}  // namespace refute
