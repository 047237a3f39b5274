#include "falsifiers/matmul_byte_influence.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(MatmulByteInfluence, HoldsOnTheReference) { expect_held(matmul_byte_influence_info()); }

TEST(MatmulByteInfluence, RefutesALastBlockNeverRead) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    Matrix<double> cut(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
    for (std::size_t t = 0; t < x.rows; ++t) std::ranges::fill(cut.row(t).last(32), 0.0);
    return real.matmul(weight, cut.view());
  };
  expect_refuted(matmul_byte_influence_info(), broken, "silent_bytes");
}
TEST(MatmulByteInfluence, RefutesRowsThatLeak) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    for (std::size_t r = 1; r < weight.rows; ++r) (*y)(0, r) += 1e-6 * (*y)(0, r - 1);
    return y;
  };
  expect_refuted(matmul_byte_influence_info(), broken, "foreign_rows");
}
TEST(MatmulByteInfluence, RefutesARowReadTwice) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    if (weight.rows > 1) (*y)(0, weight.rows - 1) = (*y)(0, 0);
    return y;
  };
  expect_refuted(matmul_byte_influence_info(), broken, "silent_bytes");
}

}  // namespace
}  // namespace refute
