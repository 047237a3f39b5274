#include "falsifiers/forward_row_alone_equals_batch.h"

#include <gtest/gtest.h>

#include "tests/falsifiers/synthetic_expectations.h"

namespace refute {
namespace {

TEST(ForwardRowAloneEqualsBatch, HoldsOnTheReference) {
  expect_held(forward_row_alone_equals_batch_info());
}

void expect_logits_fault_refuted(
    std::string_view metric,
    const std::function<void(const BrokenCall&, Matrix<double>*)>& change) {
  SessionFaults faults;
  faults.alter_logits = change;
  expect_faults_refuted(forward_row_alone_equals_batch_info(), faults, metric);
}

TEST(ForwardRowAloneEqualsBatch, RefutesATailThatATileLeavesOver) {  // F42
  expect_logits_fault_refuted("differing_elements", [](const BrokenCall& call, Matrix<double>* y) {
    const std::size_t tail = call.tokens.size() % 64;
    if (call.tokens.size() > 64 && tail != 0) (*y)(y->rows() - 1, 3) = 0.0;
  });
}

TEST(ForwardRowAloneEqualsBatch, RefutesAnAccumulatorKeptFromTheRowBefore) {  // F41
  expect_logits_fault_refuted("differing_elements", [](const BrokenCall&, Matrix<double>* y) {
    for (std::size_t t = 8; t < y->rows(); t += 8) (*y)(t, 0) += (*y)(t - 1, 0);
  });
}

TEST(ForwardRowAloneEqualsBatch, RefutesLogitsOfAnotherToken) {
  expect_logits_fault_refuted("", [](const BrokenCall&, Matrix<double>* y) {
    for (double& value : y->flat()) value = 1.0;
  });
}

}  // namespace
}  // namespace refute
