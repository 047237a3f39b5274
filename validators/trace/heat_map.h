// The heat map of a comparison: trace points down, layers across, one symbol each.
#pragma once

#include <string>

#include "falsifiers/trace_comparison.h"
#include "validators/style.h"

namespace refute {

// A line for each trace point that was compared, with the worst of its distances, under the layers'
// numbers. Colour where the style has it; the symbols alone say the same.
std::string heat_map(const TraceComparison& comparison, Style style);

// What the symbols mean, in two lines.
std::string heat_map_legend();

}  // namespace refute
