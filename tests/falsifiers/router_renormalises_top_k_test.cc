#include "falsifiers/router_renormalises_top_k.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RouterRenormalisesTopK, HoldsOnTheReference) { expect_held(router_renormalises_top_k_info()); }

TEST(RouterRenormalisesTopK, RefutesTheSettingIgnored) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    static_cast<void>(normalise);
    return real.route(logits, k, true);
  };
  expect_refuted(router_renormalises_top_k_info(), broken, "plain_error");
}
TEST(RouterRenormalisesTopK, RefutesTheSettingInverted) {
  BrokenBackend broken;
  broken.route_fault = [](const Backend& real, MatrixView<const double> logits, std::size_t k,
                          bool normalise) -> Result<Routing<double>> {
    return real.route(logits, k, !normalise);
  };
  expect_refuted(router_renormalises_top_k_info(), broken, "normalised_error");
}

}  // namespace
}  // namespace refute
