#include "falsifiers/router_rejects_non_finite.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RouterRejectsNonFinite, HoldsOnTheReference) { expect_held(router_rejects_non_finite_info()); }

TEST(RouterRejectsNonFinite, RefutesNanTreatedAsZero) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    Matrix<double> cleaned(logits.rows, logits.columns);
    for (std::size_t i = 0; i < logits.size(); ++i)
      cleaned.flat()[i] = std::isfinite(logits.data[i]) ? logits.data[i] : 0.0;
    return real.route(cleaned.view(), k, normalise);
  };
  expect_refuted(router_rejects_non_finite_info(), broken, "finite_answers");
}

TEST(RouterRejectsNonFinite, RefutesALayerThatAnswers) {
  BrokenBackend broken;
  broken.moe_hides_errors = true;
  expect_refuted(router_rejects_non_finite_info(), broken, "finite_answers");
}

TEST(RouterRejectsNonFinite, RefutesOutputWrittenBesideTheError) {
  BrokenBackend broken;
  broken.moe_entry_fault = [](MatrixView<double> y) { std::ranges::fill(y.flat(), 0.0); };
  expect_refuted(router_rejects_non_finite_info(), broken, "finite_answers");
}

}  // namespace
}  // namespace refute
