// How `refute bench` shows what it measured.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "validators/bench/fit.h"
#include "validators/bench/measure.h"
#include "validators/exit_code.h"
#include "validators/report.h"

namespace refute {

struct BenchReport {
  std::string subject = {};
  std::string backend = {};  // Its description, of the last point.
  std::string device = {};   // Processor and operating system, or the GPU.
  std::string tree_sha256 = {};
  std::size_t weight_bytes = 0;  // Of the whole model.
  std::optional<double> load_average = {};
  std::size_t processors = 0;
  SweepKind sweep = SweepKind::kNone;
  std::vector<BenchPoint> points = {};  // In the order of the sweep.

  // What is wrong with the measurement: a share of the bandwidth above 100 %.
  std::vector<std::string> errors() const;
  ExitCode exit_code() const;  // 3 with errors, else 0.
};

// human, json or csv.
std::string render_bench(const BenchReport& report, Format format, Style style);

}  // namespace refute
