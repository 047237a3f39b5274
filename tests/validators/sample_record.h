// A small record that holds together, for tests to bend.
#pragma once

#include <string>

#include "validators/record.h"

namespace refute {

inline RunRecord sample_record() {
  RunRecord record;
  record.started_at = "2026-01-01T00:00:00.000000Z";
  record.duration_us = 12;
  record.version = "0.1.0";
  record.tree_sha256 = std::string(64, 'a');
  record.compiler = "GNU 12.2.0";
  record.flags = "-O2";
  record.build_type = "Release";
  record.host = "a processor";
  record.files = {{"model.gguf", std::string(64, 'b')}};
  RecordedResult result;
  result.contract = "sample-v1";
  result.contract_version = "1.0.0";
  result.contract_sha256 = std::string(64, 'c');
  result.criterion = "FALSIFY-SAMPLE-001";
  result.criterion_sha256 = std::string(64, 'd');
  result.falsifier = "router.weights_sum_to_one";
  result.backend = BackendId::kCpu;
  result.backend_description = "cpu (portable, 1 thread)";
  result.seed = 3;
  result.cases = 7;
  result.verdict.kind = VerdictKind::kHeld;
  result.verdict.cases_run = 7;
  result.verdict.metrics = {{.metric = "sum_error",
                             .worst = 0x1p-24,
                             .threshold = 1e-6,
                             .larger_is_better = false,
                             .where = "token 0"}};
  result.outputs_sha256 = std::string(64, 'e');
  result.executed = {"cpu", "cpu"};
  record.results = {result};
  return record;
}

}  // namespace refute
