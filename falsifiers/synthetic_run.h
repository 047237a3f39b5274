// Runs of synthetic models within a property.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "engine/model.h"
#include "falsifiers/property.h"
#include "falsifiers/synthetic_model.h"
#include "falsifiers/traced_run.h"

namespace refute {

struct SyntheticRun {
  Model model;
  std::vector<std::int32_t> tokens;
  TracedRun run;

  const Matrix<double>& at(TracePoint point, std::size_t layer) const;
};

SyntheticShape draw_shape(PropertyCase& property_case);
// Its seed is a draw. Memory that cannot be had aborts.
SyntheticFile draw_file(PropertyCase& property_case, SyntheticShape shape);

// Fails the case when a trace point is missing or has another shape than documented.
bool require_all_traced(const Config& config, const TracedRun& run, PropertyCase& property_case);

// Prefills `num_tokens` random tokens and records everything. Fails the case and returns nothing
// when the backend gives an error or not all is traced. With `non_finite_metric` it measures how
// many elements of each trace point are NaN or Inf, also up to an error that they led to.
std::optional<SyntheticRun> run_synthetic(const Backend& backend, const SyntheticFile& file,
                                          std::size_t num_tokens, std::uint64_t token_seed,
                                          PropertyCase& property_case,
                                          std::string_view non_finite_metric = {});

}  // namespace refute
