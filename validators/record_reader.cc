// Reading a record back. Every field is taken with its type; what was read is then written again
// and must equal what stood there, so that nothing unknown or differently spelt gets through.
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <utility>

#include "validators/record.h"
#include "validators/record_json.h"

namespace refute {
namespace {

using nlohmann::json;

// Walks a JSON value; the first problem sticks and later reads give zeros.
class Reader {
 public:
  explicit Reader(std::string where) : where_(std::move(where)) {}

  bool ok() const { return !error_.has_value(); }
  const Error& error() const { return *error_; }

  void fail(const std::string& field, std::string expected, std::string found) {
    if (!ok()) return;
    error_ =
        Error{ErrorKind::kMalformed, where_ + " " + field, std::move(expected), std::move(found)};
  }

  const json& member(const json& object, const char* name) {
    static const json kNone;
    if (!object.is_object() || !object.contains(name)) {
      fail(name, "a field of this name", "none");
      return kNone;
    }
    return object.at(name);
  }

  const json& list(const json& object, const char* name) {
    static const json kEmpty = json::array();
    const json& value = member(object, name);
    if (!value.is_array()) {
      fail(name, "a list", value.type_name());
      return kEmpty;
    }
    return value;
  }

  std::string text(const json& object, const char* name) {
    const json& value = member(object, name);
    if (!value.is_string()) {
      fail(name, "a string", value.type_name());
      return "";
    }
    return value.get<std::string>();
  }

  std::uint64_t whole(const json& object, const char* name) {
    const json& value = member(object, name);
    if (!value.is_number_unsigned()) {
      fail(name, "a whole number", value.type_name());
      return 0;
    }
    return value.get<std::uint64_t>();
  }

  bool boolean(const json& object, const char* name) {
    const json& value = member(object, name);
    if (!value.is_boolean()) {
      fail(name, "true or false", value.type_name());
      return false;
    }
    return value.get<bool>();
  }

  double number(const json& object, const char* name) {
    const std::string hex = text(member(object, name), "hex");
    if (hex == "NaN") return std::numeric_limits<double>::quiet_NaN();
    if (hex == "Infinity") return std::numeric_limits<double>::infinity();
    if (hex == "-Infinity") return -std::numeric_limits<double>::infinity();
    char* end = nullptr;
    const double value = std::strtod(hex.c_str(), &end);
    if (hex.empty() || *end != '\0') fail(name, "a hex float", "`" + hex + "`");
    return value;
  }

  std::string sha256(const json& object, const char* name) {
    std::string digest = text(object, name);
    if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != std::string::npos) {
      fail(name, "64 hexadecimal digits", "`" + digest + "`");
    }
    return digest;
  }

  std::string optional_sha256(const json& object, const char* name) {
    const json& value = member(object, name);
    return value.is_null() ? "" : sha256(value, "sha256");
  }

 private:
  std::string where_;
  std::optional<Error> error_;
};

Verdict read_verdict(Reader& reader, const json& value) {
  Verdict verdict;
  const std::string name = reader.text(value, "verdict");
  bool known = false;
  for (const VerdictKind kind : {VerdictKind::kHeld, VerdictKind::kRefuted, VerdictKind::kGaveUp,
                                 VerdictKind::kNotRun, VerdictKind::kError}) {
    if (verdict_name(kind) != name) continue;
    verdict.kind = kind;
    known = true;
  }
  if (!known) reader.fail("verdict", "a verdict", "`" + name + "`");
  verdict.reason = reader.text(value, "reason");
  const json& cases = reader.member(value, "cases");
  verdict.cases_run = reader.whole(cases, "run");
  verdict.cases_failed = reader.whole(cases, "failed");
  verdict.cases_discarded = reader.whole(cases, "discarded");
  for (const json& metric : reader.list(value, "metrics")) {
    verdict.metrics.push_back({.metric = reader.text(metric, "name"),
                               .worst = reader.number(metric, "worst"),
                               .threshold = reader.number(metric, "threshold"),
                               .larger_is_better = reader.boolean(metric, "larger_is_better"),
                               .where = reader.text(metric, "where")});
  }
  verdict.counterexample = reader.text(value, "counterexample");
  verdict.replay_token = reader.text(value, "replay_token");
  for (const json& note : reader.list(value, "notes")) {
    if (note.is_string()) verdict.notes.push_back(note.get<std::string>());
  }
  return verdict;
}

RecordedResult read_result(Reader& reader, const json& value) {
  RecordedResult result;
  const json& contract = reader.member(value, "contract");
  result.contract = reader.text(contract, "id");
  result.contract_version = reader.text(contract, "version");
  result.contract_sha256 = reader.sha256(contract, "sha256");
  const json& criterion = reader.member(value, "criterion");
  result.criterion = reader.text(criterion, "id");
  result.criterion_sha256 = reader.sha256(criterion, "sha256");
  result.falsifier = reader.text(value, "falsifier");
  result.subject_sha256 = reader.optional_sha256(value, "subject");
  result.expected_sha256 = reader.optional_sha256(value, "expected");
  const json& backend = reader.member(value, "backend");
  const std::string backend_id = reader.text(backend, "id");
  if (const auto id = parse_backend(backend_id)) {
    result.backend = *id;
  } else {
    reader.fail("backend.id", "a backend", "`" + backend_id + "`");
  }
  result.backend_description = reader.text(backend, "description");
  const std::string seed = reader.text(value, "seed");
  const auto parsed = std::from_chars(seed.data(), seed.data() + seed.size(), result.seed);
  if (parsed.ec != std::errc{}) reader.fail("seed", "a number in a string", "`" + seed + "`");
  result.cases = reader.whole(reader.member(value, "cases"), "asked");
  result.verdict = read_verdict(reader, value);
  result.outputs_sha256 = reader.optional_sha256(value, "outputs");
  for (const json& layer : reader.list(value, "executed_layers")) {
    if (layer.is_string()) result.executed.push_back(layer.get<std::string>());
  }
  result.duration_us = reader.whole(value, "duration_us");
  return result;
}

RunRecord read_statement(Reader& reader, const json& statement) {
  RunRecord record;
  for (const json& file : reader.list(statement, "subject")) {
    record.files.push_back(
        {reader.text(file, "name"), reader.sha256(reader.member(file, "digest"), "sha256")});
  }
  const json& predicate = reader.member(statement, "predicate");
  record.started_at = reader.text(predicate, "started_at");
  record.duration_us = reader.whole(predicate, "duration_us");
  const json& tool = reader.member(predicate, "tool");
  record.version = reader.text(tool, "version");
  record.tree_sha256 = reader.sha256(tool, "tree_sha256");
  record.compiler = reader.text(tool, "compiler");
  record.flags = reader.text(tool, "flags");
  record.build_type = reader.text(tool, "build_type");
  record.host = reader.text(predicate, "host");
  const json& kill_matrix = reader.member(predicate, "kill_matrix");
  if (!reader.member(kill_matrix, "sha256").is_null()) {
    record.kill_matrix_sha256 = reader.sha256(kill_matrix, "sha256");
  }
  for (const json& result : reader.list(predicate, "results")) {
    record.results.push_back(read_result(reader, result));
  }
  return record;
}

}  // namespace

Result<RunRecord> read_record(const std::string& where, std::string_view text) {
  const json statement = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (statement.is_discarded()) {
    return Error{ErrorKind::kMalformed, where, "JSON", "something else"};
  }
  Reader reader(where);
  if (reader.text(statement, "predicateType") != kPredicateType) {
    reader.fail("predicateType", kPredicateType, "another");
  }
  const std::string claimed =
      reader.sha256(reader.member(statement, "predicate"), "statement_sha256");
  if (!reader.ok()) return reader.error();
  if (const std::string digest = statement_digest(statement); digest != claimed) {
    return Error{ErrorKind::kMalformed, where, "contents of sha256 " + claimed,
                 "sha256 " + digest + " (changed after it was written)"};
  }
  RunRecord record = read_statement(reader, statement);
  if (!reader.ok()) return reader.error();
  if (record_to_json(record) != statement) {
    return Error{ErrorKind::kMalformed, where,
                 "exactly the fields of " + std::string(kPredicateType),
                 "others, or values spelt differently"};
  }
  for (const RecordedResult& result : record.results) {
    if (std::string problem = contradiction(result); !problem.empty()) {
      return Error{ErrorKind::kMalformed, where, "verdicts that follow from their numbers",
                   problem};
    }
  }
  return record;
}

}  // namespace refute
