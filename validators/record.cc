#include "validators/record.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "validators/record_json.h"
#include "validators/sha256.h"

namespace refute {
namespace {

using nlohmann::json;

// Bad UTF-8 (quoted from a file, say) is replaced rather than thrown at.
std::string dump(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

json number_to_json(double value) {
  if (std::isnan(value)) return {{"hex", "NaN"}, {"decimal", "NaN"}};
  if (std::isinf(value)) {
    const char* name = value > 0 ? "Infinity" : "-Infinity";
    return {{"hex", name}, {"decimal", name}};
  }
  return {{"hex", fmt::format("{:a}", value)}, {"decimal", fmt::format("{}", value)}};
}

json sha256_or_null(const std::string& digest) {
  return digest.empty() ? json(nullptr) : json{{"sha256", digest}};
}

json result_to_json(const RecordedResult& result) {
  json metrics = json::array();
  for (const MetricReading& reading : result.verdict.metrics) {
    metrics.push_back(metric_to_json(reading));
  }
  return {{"contract",
           {{"id", result.contract},
            {"version", result.contract_version},
            {"sha256", result.contract_sha256}}},
          {"criterion", {{"id", result.criterion}, {"sha256", result.criterion_sha256}}},
          {"falsifier", result.falsifier},
          {"subject", sha256_or_null(result.subject_sha256)},
          {"expected", sha256_or_null(result.expected_sha256)},
          {"backend",
           {{"id", backend_name(result.backend)}, {"description", result.backend_description}}},
          {"seed", std::to_string(result.seed)},
          {"verdict", verdict_name(result.verdict.kind)},
          {"reason", result.verdict.reason},
          {"cases",
           {{"asked", result.cases},
            {"run", result.verdict.cases_run},
            {"failed", result.verdict.cases_failed},
            {"discarded", result.verdict.cases_discarded}}},
          {"metrics", metrics},
          {"counterexample", result.verdict.counterexample},
          {"replay_token", result.verdict.replay_token},
          {"notes", result.verdict.notes},
          {"outputs", sha256_or_null(result.outputs_sha256)},
          {"executed_layers", result.executed},
          {"duration_us", result.duration_us}};
}

json kill_matrix_to_json(const std::string& digest) {
  if (digest.empty()) return {{"sha256", nullptr}, {"reason", "the run had no kill matrix"}};
  return {{"sha256", digest}, {"reason", ""}};
}

}  // namespace

json metric_to_json(const MetricReading& reading) {
  return {{"name", reading.metric},
          {"worst", number_to_json(reading.worst)},
          {"threshold", number_to_json(reading.threshold)},
          {"larger_is_better", reading.larger_is_better},
          {"where", reading.where}};
}

json record_to_json(const RunRecord& record) {
  json files = json::array();
  for (const HashedFile& file : record.files) {
    files.push_back({{"name", file.name}, {"digest", {{"sha256", file.sha256}}}});
  }
  json results = json::array();
  for (const RecordedResult& result : record.results) results.push_back(result_to_json(result));
  json statement = {{"_type", kStatementType},
                    {"subject", files},
                    {"predicateType", kPredicateType},
                    {"predicate",
                     {{"started_at", record.started_at},
                      {"duration_us", record.duration_us},
                      {"tool",
                       {{"name", "refute"},
                        {"version", record.version},
                        {"tree_sha256", record.tree_sha256},
                        {"compiler", record.compiler},
                        {"flags", record.flags},
                        {"build_type", record.build_type}}},
                      {"host", record.host},
                      {"kill_matrix", kill_matrix_to_json(record.kill_matrix_sha256)},
                      {"results", results}}}};
  statement["predicate"]["statement_sha256"] = statement_digest(statement);
  return statement;
}

std::string statement_digest(json statement) {
  statement["predicate"].erase("statement_sha256");
  return sha256_hex(dump(statement, -1));
}

std::string write_record(const RunRecord& record) { return dump(record_to_json(record), 2) + "\n"; }

std::string contradiction(const RecordedResult& result) {
  const Verdict& verdict = result.verdict;
  if (!verdict.held()) return "";
  const std::string who = result.criterion + " on " + std::string(backend_name(result.backend)) +
                          " claims to have held ";
  if (verdict.cases_run == 0) return who + "without a case";
  if (verdict.cases_failed != 0) {
    return who + "with " + std::to_string(verdict.cases_failed) + " failed cases";
  }
  for (const MetricReading& reading : verdict.metrics) {
    if (!std::isfinite(reading.threshold) || !reading.passed()) {
      return who + fmt::format("with {} = {} against the bound {}", reading.metric, reading.worst,
                               reading.threshold);
    }
  }
  return "";
}

}  // namespace refute
