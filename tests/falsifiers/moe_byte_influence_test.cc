#include "falsifiers/moe_byte_influence.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(MoeByteInfluence, HoldsOnTheReference) { expect_held(moe_byte_influence_info()); }

void expect_id_fault_refuted(const std::function<std::int32_t(std::int32_t)>& change,
                             std::string_view metric) {
  BrokenBackend broken;
  broken.expert_id_fault = [change](Matrix<std::int32_t>& ids) {
    for (std::int32_t& id : ids.flat()) id = change(id);
  };
  expect_refuted(moe_byte_influence_info(), broken, metric);
}

TEST(MoeByteInfluence, RefutesIdsOfSevenBits) {  // F81
  expect_id_fault_refuted([](std::int32_t id) { return id % 128; }, "silent_bytes");
}

TEST(MoeByteInfluence, RefutesIdsThatSaturate) {
  expect_id_fault_refuted([](std::int32_t id) { return std::min(id, 254); }, "silent_bytes");
}

// What an offset in 32 bits does: the bytes of another expert, or zeros in front of the stack.
TEST(MoeByteInfluence, RefutesOffsetsThatWrapPastTwoGibibytes) {  // F79
  class Wraps : public BrokenBackend {
   public:
    Result<void> moe_ffn_forward_layer(const Config& config, const LayerWeights& layer,
                                       std::size_t layer_index, std::size_t first_position,
                                       MatrixView<const double> x, const ForwardOptions& options,
                                       MatrixView<double> y) const override {
      LayerWeights wrapped = layer;
      const ExpertStack& down = layer.down_proj;
      const std::size_t size = down.bytes_per_expert();
      const auto last = static_cast<std::size_t>(
          options.forced_routes == nullptr ? 0 : options.forced_routes->ids[0](0, 0));
      const std::size_t offset = last * size;
      if (offset <= std::size_t{1} << 31) {
        return BrokenBackend::moe_ffn_forward_layer(config, layer, layer_index, first_position, x,
                                                    options, y);
      }
      // Of the stack, only this expert is read.
      wrapped.down_proj.data = {down.data.data() + static_cast<std::int32_t>(offset) -
                                    static_cast<std::ptrdiff_t>(offset),
                                down.data.size()};
      return BrokenBackend::moe_ffn_forward_layer(config, wrapped, layer_index, first_position, x,
                                                  options, y);
    }
  };
  expect_refuted(moe_byte_influence_info(), Wraps(), "far_error");
}

TEST(MoeByteInfluence, RefutesARowOfDownThatIsNeverRead) {
  BrokenBackend broken;
  broken.moe_fault = [](MatrixView<double> y) {
    for (std::size_t t = 0; t < y.rows; ++t) y.row(t)[31] = 0.25;
  };
  expect_refuted(moe_byte_influence_info(), broken, "silent_bytes");
}

TEST(MoeByteInfluence, RefutesTokensThatReadTheExpertsOfAnother) {
  BrokenBackend broken;
  broken.moe_fault = [](MatrixView<double> y) {
    for (std::size_t t = 1; t < y.rows; ++t) y.row(t)[0] += 1e-6 * y.row(t - 1)[0];
  };
  expect_refuted(moe_byte_influence_info(), broken, "foreign_elements");
}

}  // namespace
}  // namespace refute
