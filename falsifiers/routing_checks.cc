#include "falsifiers/routing_checks.h"

#include <algorithm>
#include <numeric>

#include "falsifiers/generators.h"
#include "kernels/check.h"

namespace refute {

bool require_routing(PropertyCase& property_case, const Result<Routing<double>>& routing,
                     const Matrix<double>& logits, std::size_t k) {
  if (!property_case.require_ok(routing, "route")) return false;
  const Matrix<std::int32_t>& ids = routing->ids;
  const Matrix<double>& weights = routing->weights;
  if (!property_case.require(ids.rows() == logits.rows() && ids.columns() == k &&
                                 weights.rows() == logits.rows() && weights.columns() == k,
                             "route: ids and weights are not [num_tokens, k]")) {
    return false;
  }
  for (std::size_t t = 0; t < logits.rows(); ++t) {
    std::vector<bool> seen(logits.columns());
    for (const std::int32_t id : ids.row(t)) {
      const bool in_range = id >= 0 && static_cast<std::size_t>(id) < logits.columns();
      const bool is_new = in_range && !seen[static_cast<std::size_t>(id)];
      if (!property_case.require(is_new, "route: an id is out of range or occurs twice")) {
        return false;
      }
      seen[static_cast<std::size_t>(id)] = true;
    }
  }
  return true;
}

std::vector<std::int32_t> stable_top_k(std::span<const double> logits, std::size_t k) {
  CHECK(k <= logits.size());
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  order.resize(k);
  return order;
}

std::vector<double> closed_form_weights(std::span<const double> logits,
                                        std::span<const std::int32_t> ids, bool normalise) {
  const std::vector<double> probability = softmax(logits);
  std::vector<double> weights;
  double sum = 0.0;
  for (const std::int32_t id : ids) {
    weights.push_back(probability[static_cast<std::size_t>(id)]);
    sum += weights.back();
  }
  if (normalise) {
    for (double& weight : weights) weight /= sum;
  }
  return weights;
}

double count_differing(std::span<const std::int32_t> expected,
                       std::span<const std::int32_t> found) {
  CHECK(expected.size() == found.size());
  double differing = 0.0;
  for (std::size_t r = 0; r < expected.size(); ++r) {
    if (expected[r] != found[r]) differing += 1.0;
  }
  return differing;
}

}  // namespace refute
