// Every stage of a recorded float64 forward pass against textbook_math.h, fed the recorded inputs
// of that stage: names the first stage that is wrong without any other engine code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/model.h"
#include "falsifiers/property.h"
#include "falsifiers/traced_run.h"

namespace refute {

// Of every matrix at most `most_rows` rows are looked at, the first, the last and random ones.
// Measures `error` (|y - textbook| over the root mean square of the token's row) for each stage,
// and `wrong_ids` for the router. Preconditions: every trace point is there in its documented shape
// (trace_shape), the run starts at position 0, activations and cache are exact.
void measure_stages(const Model& model, std::span<const std::int32_t> tokens, const TracedRun& run,
                    std::size_t most_rows, std::uint64_t seed, PropertyCase& property_case);

}  // namespace refute
