// A public engine gave NaN for every logit: its kernel took all down projections for Q6_K, and
// layer 6 was the first with another type. Here that fault is seeded (F112) in a model of the same
// pattern, and the comparison of two traces has to name that layer and point.
#include <gtest/gtest.h>

#include <string>

#include "engine/backend.h"
#include "engine/synth_presets.h"
#include "engine/trace_file.h"
#include "falsifiers/trace_comparison.h"
#include "falsifiers/traced_run.h"
#include "kernels/faults.h"
#include "tests/engine/gguf_fixtures.h"
#include "validators/trace/recording.h"
#include "validators/trace/report_compare.h"

namespace refute {
namespace {

constexpr std::size_t kNumLayers = 8;
constexpr std::size_t kOtherLayer = 6;
constexpr std::size_t kNumTokens = 24;

class LayerSixTest : public testing::Test {
 protected:
  void SetUp() override {
    auto options = synth_preset("tiny", kNumLayers);
    ASSERT_TRUE(options) << options.error().message();
    for (std::size_t layer = 0; layer < kNumLayers; ++layer) {
      const TensorType type = layer == kOtherLayer ? TensorType::kQ4_K : TensorType::kQ6_K;
      ASSERT_TRUE(set_synth_type(*options, std::to_string(layer) + ".down_proj", type));
    }
    ASSERT_TRUE(write_synthetic_model(*options, file_.path()));
  }

  // Records a run, by way of a file.
  TraceFile record(const Model& model, const std::string& name) const {
    const auto cpu = make_cpu_backend(std::move(cpu::Context::create(2)).value());
    const auto selection = TraceSelection::create({}, {}, kNumLayers).value();
    const TraceFile trace =
        record_run(*cpu, model, selection, {.tokens = random_tokens(model.config(), 1, kNumTokens)},
                   {.subject = "layer-six",
                    .model_sha256 = "same",
                    .backend = "cpu",
                    .description = cpu->description(),
                    .version = "",
                    .tree_sha256 = "",
                    .routes = "own",
                    .error = "",
                    .chunk = 0})
            .value();
    const TemporaryFile file(name);
    EXPECT_TRUE(write_trace_file(trace, file.path()));
    return read_trace_file(file.path()).value();
  }

  const TemporaryFile file_{"layer_six.gguf"};
};

TEST_F(LayerSixTest, CompareNamesLayerAndPointOfTheSeededNan) {
  const Model model = Model::load(file_.path()).value();
  const TraceFile right = record(model, "right.gguf");
  EXPECT_EQ(right.origin.error, "");
  TraceFile wrong;
  {
    const SeededFault fault("F112", FaultHost::kCpu);
    wrong = record(model, "wrong.gguf");
    EXPECT_GT(fault.hits(), 0u);
  }
  EXPECT_NE(wrong.origin.error.find("layer 7"), std::string::npos)
      << "the forward pass notices in the next layer: " << wrong.origin.error;

  ASSERT_TRUE(check_same_run(right, wrong));
  CompareReport report{.reference_file = "right.gguf",
                       .candidate_file = "wrong.gguf",
                       .reference = right,
                       .candidate = wrong,
                       .chained = compare_chained(right, wrong),
                       .local = std::nullopt,
                       .replayed_by = ""};
  EXPECT_EQ(report.exit_code(), ExitCode::kRefutedOrInvalid);
  const SiteComparison* first = report.chained.first_divergence();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->site.name(), "blk.6.expert_out");
  EXPECT_EQ(first->state, SiteState::kNonFinite) << first->detail;
  for (const SiteComparison& site : report.chained.sites) {
    if (&site == first) break;
    EXPECT_EQ(site.state, SiteState::kEqual) << site.site.name();
  }
  const std::string text = render_compare(report, Format::kHuman, {});
  EXPECT_NE(text.find("First chained divergence: blk.6.expert_out"), std::string::npos) << text;
  EXPECT_NE(text.find("  expert_out    = = = = = = ! ?"), std::string::npos) << text;
  EXPECT_NE(text.find("The candidate ended before its end: "), std::string::npos) << text;
}

}  // namespace
}  // namespace refute
