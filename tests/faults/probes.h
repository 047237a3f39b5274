// What shows a fault: one computation a fault on a backend, whose outcome the fault must change.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "kernels/matrix.h"
#include "kernels/result.h"

namespace refute {

// All numbers that a computation gave, and its errors.
struct Outcome {
  std::vector<double> values;
  std::string errors;

  void add(double value) { values.push_back(value); }
  void add(MatrixView<const double> rows) {
    values.insert(values.end(), rows.flat().begin(), rows.flat().end());
  }
  void add(const Result<Matrix<double>>& result) {
    if (result) {
      add(result->view());
    } else {
      errors += result.error().message() + "\n";
    }
  }
  void add(const Result<void>& result) {
    if (!result) errors += result.error().message() + "\n";
  }
};

// By bits; NaN is equal to itself.
bool same_outcome(const Outcome& a, const Outcome& b);
// The largest difference of two values as a share of the largest value; infinite when the outcomes
// differ in length or errors, or in where they are not finite.
double largest_difference(const Outcome& a, const Outcome& b);

using Probe = std::function<Outcome(const Backend&)>;

struct FaultProbe {
  std::string_view id;
  Probe probe;
  // Of equivalent faults: what rounding may amount to, on the oracle and elsewhere.
  double oracle_bound = 0.0;
  double float32_bound = 0.0;
};

std::vector<FaultProbe> op_probes();
std::vector<FaultProbe> model_probes();

}  // namespace refute
