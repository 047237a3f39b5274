#include "falsifiers/matmul_row_alone_equals_batch.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(MatmulRowAloneEqualsBatch, HoldsOnTheReference) {
  expect_held(matmul_row_alone_equals_batch_info());
}

TEST(MatmulRowAloneEqualsBatch, RefutesAnOrderChosenByBatchSize) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    for (double& value : y->flat()) value *= x.rows > 1 ? 1.0 + 0x1p-50 : 1.0;
    return y;
  };
  expect_refuted(matmul_row_alone_equals_batch_info(), broken, "differing_elements");
}
TEST(MatmulRowAloneEqualsBatch, RefutesScratchSharedBetweenRows) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    for (std::size_t t = 1; t < x.rows; ++t) (*y)(t, 0) += 1e-9 * (*y)(t - 1, 0);
    return y;
  };
  expect_refuted(matmul_row_alone_equals_batch_info(), broken, "differing_elements");
}

TEST(MatmulRowAloneEqualsBatch, RefutesAMatvecOfItsOwn) {
  BrokenBackend broken;
  broken.matvec_fault = [](const Backend& real, const WeightView& weight, std::span<const double> x,
                           std::span<double> y) {
    auto done = real.matvec(weight, x, y);
    if (done && weight.type == TensorType::kQ6_K) y[0] += 1e-12;
    return done;
  };
  expect_refuted(matmul_row_alone_equals_batch_info(), broken, "differing_elements");
}

}  // namespace
}  // namespace refute
