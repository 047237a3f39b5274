// Which comparison class two recorded runs belong to, and its bounds at each trace point. The
// bounds are the ceilings of the falsifiers that gate the same distances: there is no second table.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/model.h"
#include "engine/trace.h"
#include "engine/trace_file.h"
#include "falsifiers/metrics.h"
#include "falsifiers/verdict.h"

namespace refute {

enum class ComparisonClass {
  kA,  // Float64 against float64 through float32.
  kB,  // A stage with the same activation quantization on bit-identical inputs.
  kC,  // Quantized activations against none.
  kD,  // The same quantization, inputs that differ in their last places.
  kE,  // The same backend again: bit for bit.
};
std::string_view comparison_class_name(ComparisonClass comparison_class);  // "A"

// Two numbers that are never reported as each other. Chained: the whole run up to a trace point,
// errors of all stages before included. Local: one stage, fed with the reference's inputs.
enum class ErrorScope { kChained, kLocal };

// How the arithmetic of a run stands to the float64 definition.
enum class Arithmetic { kExact, kEmulated, kFast };
Arithmetic arithmetic_of(const TraceOrigin& origin);

struct Yardstick {
  ComparisonClass comparison_class = ComparisonClass::kE;
  ErrorScope scope = ErrorScope::kChained;
  std::string_view falsifier;  // Whose ceilings the bounds are.
  std::string why;             // "the same backend: no bit may differ"
};

// For a chained comparison the order of the two does not matter; a local one replays on the
// candidate's backend from the reference's values.
Yardstick choose_yardstick(const TraceOrigin& reference, const TraceOrigin& candidate,
                           ErrorScope scope);

// What a local bound depends on beside the site; unused for a chained one.
struct LocalStage {
  const Model* model = nullptr;
  bool composed = false;  // Some of the stage's own inputs are not recorded.
};

// `distances` held against the yardstick's bounds at `site`.
std::vector<MetricReading> distance_readings(const Yardstick& yardstick, TraceSite site,
                                             std::size_t num_hidden_layers, const LocalStage& stage,
                                             const Comparison& distances);

// The bound of the share of tokens that may take other experts outside of the tie band.
double routing_bound(const Yardstick& yardstick);

}  // namespace refute
