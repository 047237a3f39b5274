// The headline of a kill matrix: of all faults, how many each metric kills, how many the popular
// gate alone does, and how many all gates together.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/backend_id.h"
#include "validators/kill_matrix.h"

namespace refute {

struct MetricKills {
  std::string metric;
  std::size_t kills = 0;
};

struct Headline {
  BackendId host = BackendId::kOracle;
  std::size_t faults = 0;            // Reached and not equivalent.
  std::size_t logits_cosine = 0;     // By cosine >= 0.99 on the logits alone.
  std::size_t all = 0;               // By all gates together.
  std::vector<MetricKills> metrics;  // The most first.
};

// One for each backend that hosts faults.
std::vector<Headline> headlines(const KillMatrix& matrix);

}  // namespace refute
