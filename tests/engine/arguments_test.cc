#include "engine/arguments.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend.h"

namespace refute {
namespace {

TEST(ExpertByteSlice, TilesTheTensorExactly) {
  const std::vector<std::byte> data(3 * 2 * 144);
  const ExpertStack stack{TensorType::kQ4_K, 3, 2, 256, data};
  for (std::size_t expert = 0; expert < 3; ++expert) {
    const auto slice = expert_byte_slice(stack, expert);
    ASSERT_TRUE(slice);
    EXPECT_EQ(slice->data(), data.data() + expert * 288);
    EXPECT_EQ(slice->size(), 288u);
  }
}

TEST(ExpertByteSlice, RefusesWhatDoesNotFit) {
  const std::vector<std::byte> data(3 * 2 * 144);
  const ExpertStack stack{TensorType::kQ4_K, 3, 2, 256, data};
  const auto outside = expert_byte_slice(stack, 3);
  ASSERT_FALSE(outside);
  EXPECT_EQ(outside.error().message(),
            "InvalidShape: expert_byte_slice expert: expected below num_experts = 3, found 3");

  // The bug that made all logits NaN: bytes of one type read with the stride of another.
  ExpertStack wrong_type = stack;
  wrong_type.type = TensorType::kQ6_K;
  EXPECT_TRUE(expert_byte_slice(wrong_type, 1));
  const auto past = expert_byte_slice(wrong_type, 2);
  ASSERT_FALSE(past);
  EXPECT_EQ(
      past.error().message(),
      "InvalidShape: expert_byte_slice data: expected 420 bytes at expert 2, found a tensor of "
      "864 bytes");

  ExpertStack huge = stack;
  huge.num_experts = SIZE_MAX;
  EXPECT_EQ(expert_byte_slice(huge, SIZE_MAX - 1).error().kind, ErrorKind::kInvalidShape);
  ExpertStack ragged = stack;
  ragged.columns = 255;
  EXPECT_EQ(expert_byte_slice(ragged, 0).error().kind, ErrorKind::kInvalidShape);
}

TEST(Arguments, EveryBackendGivesTheSameErrors) {
  auto context = cpu::Context::create(1);
  ASSERT_TRUE(context);
  const auto cpu = make_cpu_backend(std::move(*context));
  const auto oracle = make_oracle_backend(ActivationScheme::kExact);
  const std::vector<std::byte> q4k(2 * 144);
  const std::vector<std::byte> q6k(2 * 210);
  struct Call {
    std::size_t bytes, rows, columns, x, y;
    std::string message;
  };
  const std::vector<Call> calls = {
      {288, 2, 256, 255, 2, "InvalidShape: q4k_matvec x: expected 256 elements, found 255"},
      {288, 2, 256, 257, 2, "InvalidShape: q4k_matvec x: expected 256 elements, found 257"},
      {288, 2, 256, 256, 1, "InvalidShape: q4k_matvec y: expected 2 elements, found 1"},
      {288, 2, 255, 255, 2,
       "InvalidShape: q4k_matvec columns: expected a multiple of 256, found 255"},
      {288, 0, 256, 256, 0,
       "InvalidShape: q4k_matvec shape: expected at least one row and column, found [0, 256]"},
      {287, 2, 256, 256, 2,
       "InvalidShape: q4k_matvec weight: expected 2 rows of 144 bytes, found 287 bytes"},
      {144, 2, 256, 256, 2,
       "InvalidShape: q4k_matvec weight: expected 2 rows of 144 bytes, found 144 bytes"},
      {0, SIZE_MAX / 8, 256, 256, 2,
       "InvalidShape: q4k_matvec weight: expected 2305843009213693951 rows of 144 bytes, found 0 "
       "bytes"},
  };
  for (const Backend* backend : {oracle.get(), cpu.get()}) {
    for (const Call& call : calls) {
      const std::vector<double> x(call.x, 1.0);
      std::vector<double> y(call.y, 42.0);
      const auto result =
          backend->q4k_matvec(std::span(q4k).first(call.bytes), call.rows, call.columns, x, y);
      ASSERT_FALSE(result) << call.message;
      EXPECT_EQ(result.error().message(), call.message) << backend->description();
      EXPECT_EQ(y, std::vector<double>(call.y, 42.0));
    }
    std::vector<double> y(2);
    EXPECT_TRUE(backend->q4k_matvec(q4k, 2, 256, std::vector<double>(256, 1.0), y));
    EXPECT_TRUE(backend->q6k_gemv(q6k, 2, 256, std::vector<double>(256, 1.0), y));
    const auto swapped = backend->q6k_gemv(q4k, 2, 256, std::vector<double>(256, 1.0), y);
    ASSERT_FALSE(swapped);
    EXPECT_EQ(swapped.error().message(),
              "InvalidShape: q6k_gemv weight: expected 2 rows of 210 bytes, found 288 bytes");
  }
}

TEST(Arguments, FiniteChecksNameRowAndColumn) {
  Matrix<float> x(2, 3);
  EXPECT_TRUE(check_finite("hidden", std::as_const(x).view()));
  x(1, 2) = -HUGE_VALF;
  EXPECT_EQ(check_finite("hidden", std::as_const(x).view()).error().message(),
            "NonFinite: hidden row 1 column 2: expected a finite number, found -inf");
}

TEST(Arguments, FiniteChecksSeeEveryColumn) {
  Matrix<float> x(1, 37);
  for (float& value : x.flat()) value = std::numeric_limits<float>::max();
  EXPECT_TRUE(check_finite("logits", std::as_const(x).view()));
  for (const float wrong : {HUGE_VALF, -HUGE_VALF, std::nanf(""), -std::nanf("1")}) {
    for (std::size_t c = 0; c < x.columns(); ++c) {
      const float right = std::exchange(x(0, c), wrong);
      const Result<void> checked = check_finite("logits", std::as_const(x).view());
      ASSERT_FALSE(checked);
      EXPECT_EQ(checked.error().where, "logits row 0 column " + std::to_string(c));
      x(0, c) = right;
    }
  }
}

}  // namespace
}  // namespace refute
