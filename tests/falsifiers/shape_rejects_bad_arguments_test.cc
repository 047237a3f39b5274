#include "falsifiers/shape_rejects_bad_arguments.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model.h"
#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

class ShapeRejectsBadArguments : public testing::Test {
 protected:
  void SetUp() override {
    auto loaded = Model::load(std::string(REFUTE_TEST_DATA) + "/packs/nano.gguf");
    ASSERT_TRUE(loaded) << loaded.error().message();
    model_ = std::make_unique<Model>(*std::move(loaded));
  }

  std::unique_ptr<Model> model_;
};

TEST_F(ShapeRejectsBadArguments, HoldsOnTheReference) {
  expect_held(shape_rejects_bad_arguments_info(), model_.get());
}

TEST_F(ShapeRejectsBadArguments, RefutesAMatvecThatClamps) {
  BrokenBackend broken;
  broken.matvec_fault = [](const Backend& real, const WeightView& weight, std::span<const double> x,
                           std::span<double> y) {
    std::vector<double> padded(weight.columns);
    std::ranges::copy(x.first(std::min(x.size(), padded.size())), padded.begin());
    return real.matvec(weight, padded, y);
  };
  expect_refuted(shape_rejects_bad_arguments_info(), broken, "violations", model_.get());
}

TEST_F(ShapeRejectsBadArguments, RefutesAGoodCallRefused) {
  BrokenBackend broken;
  broken.matvec_fault = [](const Backend&, const WeightView&, std::span<const double>,
                           std::span<double>) -> Result<void> {
    return Error{ErrorKind::kInvalidShape, "matvec x", "another size", "this one"};
  };
  expect_refuted(shape_rejects_bad_arguments_info(), broken, "violations", model_.get());
}

TEST_F(ShapeRejectsBadArguments, RefutesAnotherKindOfError) {
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight, float epsilon) {
    auto y = real.rms_norm(x, weight, epsilon);
    if (y) return y;
    Error error = y.error();
    error.kind = ErrorKind::kMalformed;
    return Result<Matrix<double>>(error);
  };
  expect_refuted(shape_rejects_bad_arguments_info(), broken, "violations", model_.get());
}

TEST_F(ShapeRejectsBadArguments, RefutesAnotherWording) {
  BrokenBackend broken;
  broken.rms_norm_fault = [](const Backend& real, MatrixView<const double> x,
                             std::span<const float> weight, float epsilon) {
    auto y = real.rms_norm(x, weight, epsilon);
    if (y) return y;
    Error error = y.error();
    error.expected = "something else";
    return Result<Matrix<double>>(error);
  };
  expect_refuted(shape_rejects_bad_arguments_info(), broken, "violations", model_.get());
}

TEST_F(ShapeRejectsBadArguments, RefutesOutputWrittenBeforeTheCheck) {
  BrokenBackend broken;
  broken.moe_entry_fault = [](MatrixView<double> y) {
    if (y.size() > 0) y.data[0] = 0.0;
  };
  expect_refuted(shape_rejects_bad_arguments_info(), broken, "violations", model_.get());
}

TEST_F(ShapeRejectsBadArguments, RefutesACapacityThatIsClamped) {
  BrokenBackend broken;
  broken.clamps_capacity = true;
  expect_refuted(shape_rejects_bad_arguments_info(), broken, "violations", model_.get());
}

}  // namespace
}  // namespace refute
