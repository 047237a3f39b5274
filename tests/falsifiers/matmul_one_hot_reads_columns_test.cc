#include "falsifiers/matmul_one_hot_reads_columns.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/quant/half.h"
#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(MatmulOneHotReadsColumns, HoldsOnTheReference) {
  expect_held(matmul_one_hot_reads_columns_info());
}

TEST(MatmulOneHotReadsColumns, RefutesTwoColumnsExchanged) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    Matrix<double> swapped(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
    for (std::size_t t = 0; t < x.rows && x.columns > 32; ++t)
      std::swap(swapped(t, 31), swapped(t, 32));
    return real.matmul(weight, swapped.view());
  };
  expect_refuted(matmul_one_hot_reads_columns_info(), broken, "readout_error");
}
TEST(MatmulOneHotReadsColumns, RefutesALastColumnNeverRead) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    Matrix<double> cut(x.rows, x.columns, {x.flat().begin(), x.flat().end()});
    for (std::size_t t = 0; t < x.rows; ++t) cut(t, x.columns - 1) = 0.0;
    return real.matmul(weight, cut.view());
  };
  expect_refuted(matmul_one_hot_reads_columns_info(), broken, "readout_error");
}
TEST(MatmulOneHotReadsColumns, RefutesTheMinimumIgnored) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    if (weight.type != TensorType::kQ4_K) return real.matmul(weight, x);
    std::vector<std::byte> bytes(weight.data, weight.data + weight.bytes());
    for (std::size_t block = 0; block < bytes.size(); block += 144)
      bytes[block + 2] = bytes[block + 3] = std::byte{0};
    return real.matmul({weight.type, weight.rows, weight.columns, bytes.data()}, x);
  };
  expect_refuted(matmul_one_hot_reads_columns_info(), broken, "readout_error");
}
TEST(MatmulOneHotReadsColumns, RefutesScalesWithExchangedBytes) {
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    if (weight.type != TensorType::kQ6_K) return real.matmul(weight, x);
    std::vector<std::byte> bytes(weight.data, weight.data + weight.bytes());
    for (std::size_t block = 0; block < bytes.size(); block += 210)
      bytes[block + 192] ^= std::byte{1};
    return real.matmul({weight.type, weight.rows, weight.columns, bytes.data()}, x);
  };
  expect_refuted(matmul_one_hot_reads_columns_info(), broken, "readout_error");
}

TEST(MatmulOneHotReadsColumns, RefutesSumsInFloat16ByIntegers) {  // F1
  BrokenBackend broken;
  broken.matmul_fault = [](const Backend& real, const WeightView& weight,
                           MatrixView<const double> x) {
    auto y = real.matmul(weight, x);
    for (double& value : y->flat()) {
      value = static_cast<double>(float_from_half(half_from_float(static_cast<float>(value))));
    }
    return y;
  };
  expect_refuted(matmul_one_hot_reads_columns_info(), broken, "elementwise_ratio");
}

}  // namespace
}  // namespace refute
