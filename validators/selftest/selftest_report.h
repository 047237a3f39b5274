// The selftest's result as text.
#pragma once

#include <string>
#include <vector>

#include "validators/report.h"
#include "validators/selftest/mutants.h"
#include "validators/selftest/selftest.h"

namespace refute {

struct SelftestReport {
  SelftestResult result;
  std::vector<MutantOutcome> mutants;
  std::vector<std::string> lost;  // Against the committed matrix.
  std::vector<std::string> gained;
  bool compared = false;  // Whether the committed matrix is of this subject.

  bool passed() const;
};

std::string render_selftest(const SelftestReport& report, Format format, Style style);

}  // namespace refute
