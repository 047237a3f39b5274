#include "falsifiers/rope_matches_golden.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/falsifiers/broken_backend.h"
#include "tests/falsifiers/falsifier_expectations.h"

namespace refute {
namespace {

TEST(RopeMatchesGolden, HoldsOnTheReference) { expect_held(rope_matches_golden_info()); }

TEST(RopeMatchesGolden, RefutesAnotherTheta) {
  BrokenBackend broken;
  broken.rope_fault = [](const Backend& real, const RopeTable& table, std::size_t num_heads,
                         std::size_t position, MatrixView<const double> x) {
    const RopeTable other(5e5, table.head_dim(), table.num_positions());
    return real.rope(other, num_heads, position, x);
  };
  expect_refuted(rope_matches_golden_info(), broken, "absolute_error");
}
TEST(RopeMatchesGolden, RefutesPositionsOffByOne) {
  BrokenBackend broken;
  broken.rope_fault = [](const Backend& real, const RopeTable& table, std::size_t num_heads,
                         std::size_t position, MatrixView<const double> x) {
    return real.rope(table, num_heads, position > 0 ? position - 1 : 0, x);
  };
  expect_refuted(rope_matches_golden_info(), broken, "absolute_error");
}
TEST(RopeMatchesGolden, RefutesPositionsThatWrap) {
  BrokenBackend broken;
  broken.rope_fault = [](const Backend& real, const RopeTable& table, std::size_t num_heads,
                         std::size_t position, MatrixView<const double> x) {
    return real.rope(table, num_heads, position % 4096, x);
  };
  expect_refuted(rope_matches_golden_info(), broken, "absolute_error");
}
TEST(RopeMatchesGolden, RefutesPositionZeroThatTurns) {
  BrokenBackend broken;
  broken.rope_fault = [](const Backend& real, const RopeTable& table, std::size_t num_heads,
                         std::size_t position, MatrixView<const double> x) {
    return real.rope(table, num_heads, position == 0 ? 1 : position, x);
  };
  expect_refuted(rope_matches_golden_info(), broken, "identity_error");
}
TEST(RopeMatchesGolden, RefutesTheOppositeSign) {
  BrokenBackend broken;
  broken.rope_fault = [](const Backend& real, const RopeTable& table, std::size_t num_heads,
                         std::size_t position, MatrixView<const double> x) {
    auto y = real.rope(table, num_heads, position, x);
    if (!y) return y;  // Past the table.
    for (std::size_t i = 0; i < y->size(); ++i)
      y->flat()[i] =
          2.0 * x.data[i] * table.cosines(position)[i % table.head_dim() % (table.head_dim() / 2)] -
          y->flat()[i];
    return y;
  };
  expect_refuted(rope_matches_golden_info(), broken, "absolute_error");
}
TEST(RopeMatchesGolden, RefutesInterleavedPairs) {
  BrokenBackend broken;
  broken.rope_fault = [](const Backend& real, const RopeTable& table, std::size_t num_heads,
                         std::size_t position, MatrixView<const double> x) {
    const std::size_t size = table.head_dim();
    const auto place = [size](std::size_t i) {
      return i % size < size / 2 ? i - i % size + 2 * (i % size)
                                 : i - i % size + 2 * (i % size - size / 2) + 1;
    };
    Matrix<double> paired(x.rows, x.columns);
    for (std::size_t t = 0; t < x.rows; ++t) {
      for (std::size_t i = 0; i < x.columns; ++i) paired(t, i) = x.row(t)[place(i)];
    }
    auto turned = real.rope(table, num_heads, position, paired.view());
    if (!turned) return turned;
    auto y = turned;
    for (std::size_t t = 0; t < x.rows; ++t) {
      for (std::size_t i = 0; i < x.columns; ++i) (*y)(t, place(i)) = (*turned)(t, i);
    }
    return y;
  };
  expect_refuted(rope_matches_golden_info(), broken, "absolute_error");
}

TEST(RopeMatchesGolden, RefutesAPositionPastTheTableThatIsClamped) {  // F99
  BrokenBackend broken;
  broken.rope_fault = [](const Backend& real, const RopeTable& table, std::size_t num_heads,
                         std::size_t position, MatrixView<const double> x) {
    return real.rope(table, num_heads, std::min(position, table.num_positions() - x.rows), x);
  };
  expect_refuted(rope_matches_golden_info(), broken, "accepted");
}

}  // namespace
}  // namespace refute
