#include "falsifiers/fidelity_local_stages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "tests/falsifiers/broken_session.h"
#include "tests/falsifiers/pack_fixture.h"

namespace refute {
namespace {

TEST(FidelityLocalStages, HoldsOnTheCpuBackendOfEveryPack) {
  for (const char* name : kPackNames) {
    const LoadedPack loaded(name);
    EXPECT_TRUE(held(run(fidelity_local_stages_info(), *cpu_backend(), loaded))) << name;
  }
}

// Activations of 4 bits in place of 8.
class CoarseActivations : public FaultySessionBackend {
 public:
  explicit CoarseActivations(const Backend& inner) : FaultySessionBackend(inner, {}) {}

  Result<Matrix<double>> matmul(const WeightView& weight,
                                MatrixView<const double> x) const override {
    Matrix<double> coarse(x.rows, x.columns);
    for (std::size_t r = 0; r < x.rows; ++r) {
      double largest = 0.0;
      for (const double value : x.row(r)) largest = std::max(largest, std::abs(value));
      for (std::size_t c = 0; c < x.columns; ++c) {
        coarse(r, c) = std::nearbyint(x.row(r)[c] / largest * 7.0) * largest / 7.0;
      }
    }
    return FaultySessionBackend::matmul(weight, std::as_const(coarse).view());
  }
};

TEST(FidelityLocalStages, FourBitActivationsAreRefuted) {
  const LoadedPack loaded("tiny");
  const auto cpu = cpu_backend();
  const CoarseActivations broken(*cpu);
  EXPECT_TRUE(refuted_by(run(fidelity_local_stages_info(), broken, loaded), "matmul_relative_l2",
                         "blk.0.v"));
}

// F22: missing renormalisation.
class UnnormalisedWeights : public FaultySessionBackend {
 public:
  explicit UnnormalisedWeights(const Backend& inner) : FaultySessionBackend(inner, {}) {}

  Result<Routing<double>> route(MatrixView<const double> logits, std::size_t num_experts_per_tok,
                                bool) const override {
    return FaultySessionBackend::route(logits, num_experts_per_tok, false);
  }
};

TEST(FidelityLocalStages, MissingRenormalisationIsRefuted) {
  const LoadedPack loaded("nano");
  const auto cpu = cpu_backend();
  const UnnormalisedWeights broken(*cpu);
  EXPECT_TRUE(refuted_by(run(fidelity_local_stages_info(), broken, loaded), "float_relative_l2",
                         "blk.0.router_weight"));
}

// F30: the last expert's id off by one.
class NeighbourExpert : public FaultySessionBackend {
 public:
  explicit NeighbourExpert(const Backend& inner) : FaultySessionBackend(inner, {}) {}

  Result<Routing<double>> route(MatrixView<const double> logits, std::size_t num_experts_per_tok,
                                bool norm_topk_prob) const override {
    auto routing = FaultySessionBackend::route(logits, num_experts_per_tok, norm_topk_prob);
    for (std::size_t t = 0; t < logits.rows; ++t) {
      std::int32_t& id = routing->ids(t, num_experts_per_tok - 1);
      id = (id + 1) % static_cast<std::int32_t>(logits.columns);
    }
    return routing;
  }
};

TEST(FidelityLocalStages, ANeighbouringExpertIsRefuted) {
  const LoadedPack loaded("gqa");
  const auto cpu = cpu_backend();
  const NeighbourExpert broken(*cpu);
  EXPECT_TRUE(
      refuted_by(run(fidelity_local_stages_info(), broken, loaded), "routes_wrong", "layers"));
}

// F29: the last expert dropped.
class DroppedExpert : public FaultySessionBackend {
 public:
  explicit DroppedExpert(const Backend& inner) : FaultySessionBackend(inner, {}) {}

  Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                     std::size_t layer_index, std::size_t first_position,
                                     MatrixView<const double> x, const ForwardOptions& options,
                                     MatrixView<double> y) const override {
    Config fewer = config;
    --fewer.num_experts_per_tok;
    ForcedRoutes routes;
    for (const Matrix<std::int32_t>& ids : options.forced_routes->ids) {
      Matrix<std::int32_t> kept(ids.rows(), ids.columns() - 1);
      for (std::size_t t = 0; t < ids.rows(); ++t) {
        std::ranges::copy(ids.row(t).first(kept.columns()), kept.row(t).begin());
      }
      routes.ids.push_back(std::move(kept));
    }
    ForwardOptions forced = options;
    forced.forced_routes = &routes;
    return FaultySessionBackend::moe_ffn_forward_layer(fewer, layer, layer_index, first_position, x,
                                                       forced, y);
  }
};

TEST(FidelityLocalStages, ADroppedExpertIsRefuted) {
  const LoadedPack loaded("gqa");
  const auto cpu = cpu_backend();
  const DroppedExpert broken(*cpu);
  EXPECT_TRUE(refuted_by(run(fidelity_local_stages_info(), broken, loaded), "moe_relative_l2",
                         "blk.0.moe_out"));
}

}  // namespace
}  // namespace refute
