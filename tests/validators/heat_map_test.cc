#include "validators/trace/heat_map.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace refute {
namespace {

SiteComparison site(TracePoint point, std::size_t layer, SiteState state) {
  return {.site = {point, layer}, .state = state, .elements = 10};
}

SiteComparison within(TracePoint point, std::size_t layer, double share) {
  SiteComparison comparison = site(point, layer, SiteState::kWithin);
  comparison.differing = 4;
  comparison.distances = Comparison{.relative_l2 = 0.5 * share};
  comparison.readings = {{.metric = "relative_l2",
                          .worst = share,
                          .threshold = 1.0,
                          .larger_is_better = false,
                          .where = ""}};
  return comparison;
}

bool has_line(const std::string& map, const std::string& line) {
  return ("\n" + map).find("\n" + line + "\n") != std::string::npos;
}

TEST(HeatMap, HasASymbolForEachState) {
  TraceComparison comparison{.num_hidden_layers = 5};
  comparison.sites = {site(TracePoint::kEmbedding, 0, SiteState::kEqual),
                      within(TracePoint::kQ, 0, 0.1),
                      within(TracePoint::kQ, 1, 0.4),
                      within(TracePoint::kQ, 2, 1.0),
                      site(TracePoint::kK, 0, SiteState::kEqual),
                      site(TracePoint::kK, 2, SiteState::kNotCompared),
                      site(TracePoint::kK, 3, SiteState::kMissing),
                      site(TracePoint::kMoeOut, 0, SiteState::kBeyond),
                      site(TracePoint::kMoeOut, 3, SiteState::kNonFinite),
                      site(TracePoint::kLogits, 0, SiteState::kShape)};
  SiteComparison parted = site(TracePoint::kRouterIndex, 1, SiteState::kWithin);
  parted.differing = 2;
  parted.routes = RouteDifference{.tokens = 5, .other_sets = 1};
  comparison.sites.push_back(parted);
  const std::string map = heat_map(comparison, {});
  for (const char* line : {
           "  layer         0 1 2 3 4",
           "  embedding     =           equal",
           "  q             . : +       5.00e-01 at blk.2.q, cosine 1.00000000, 12 of 30 differ",
           "  k             =   - ?     equal",
           "  router_index    r         2 of 10 differ, 1 tokens with other experts",
           "  moe_out       #     !     NaN or Inf at blk.3.moe_out",
           "  logits        %           another shape at logits",
       }) {
    EXPECT_TRUE(has_line(map, line)) << line << "\n" << map;
  }
}

TEST(HeatMap, TellsTheSameWithColour) {
  TraceComparison comparison{.num_hidden_layers = 1};
  comparison.sites = {site(TracePoint::kMoeOut, 0, SiteState::kBeyond)};
  const std::string map = heat_map(comparison, {.color = true});
  EXPECT_NE(map.find("\x1b[1;31m#\x1b[0m"), std::string::npos) << map;
}

TEST(HeatMap, PutsManyLayersSideBySide) {
  TraceComparison comparison{.num_hidden_layers = 48};
  for (std::size_t layer = 0; layer < 48; ++layer) {
    comparison.sites.push_back(site(TracePoint::kMoeOut, layer, SiteState::kEqual));
  }
  const std::string map = heat_map(comparison, {});
  EXPECT_TRUE(has_line(map, "                          1         2         3         4")) << map;
  EXPECT_TRUE(has_line(map, "  layer         012345678901234567890123456789012345678901234567"));
  EXPECT_TRUE(has_line(map, "  moe_out       " + std::string(48, '=') + "  equal")) << map;
}

}  // namespace
}  // namespace refute
