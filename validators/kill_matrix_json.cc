// The JSON form of the kill matrix, and the copy that the binary carries.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/check.h"
#include "validators/embedded_files.h"
#include "validators/kill_matrix.h"
#include "validators/sha256.h"

namespace refute {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kSchema = "refute-kill-matrix-v1";

// Numbers that JSON lacks are strings.
ordered_json number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return ordered_json::parse(fmt::format("{:.4g}", value));
}

// A value near 1 says something by its distance from 1 alone, so every digit counts.
ordered_json reading_number(double value, bool larger_is_better) {
  return larger_is_better && std::isfinite(value) ? ordered_json(value) : number(value);
}

double number_of(const json& value) {
  if (value.is_number()) return value.get<double>();
  const auto text = value.get<std::string>();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  if (text == "Infinity") return infinity;
  if (text == "-Infinity") return -infinity;
  throw std::invalid_argument("`" + text + "` is no number");
}

ordered_json cell_to_json(const KillCell& cell) {
  ordered_json line = {{"falsifier", cell.falsifier}, {"state", cell_state_name(cell.state)}};
  if (cell.by.empty()) return line;
  line["margin"] = number(cell.margin());
  for (const KillReading& reading : cell.by) {
    line["by"].push_back(
        {{"metric", reading.metric},
         {"worst", reading_number(reading.worst, reading.larger_is_better)},
         {"threshold", reading_number(reading.threshold, reading.larger_is_better)},
         {"larger_is_better", reading.larger_is_better}});
  }
  return line;
}

template <typename Enum>
Enum parse_name(const std::string& text, std::string_view (*name)(Enum), Enum last) {
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    if (name(static_cast<Enum>(i)) == text) return static_cast<Enum>(i);
  }
  throw std::invalid_argument("`" + text + "` is unknown");
}

BackendId backend_of(const json& value) {
  return parse_name(value.get<std::string>(), backend_name, BackendId::kWgpu);
}

KillCell cell_of(const json& line) {
  KillCell cell;
  cell.falsifier = line.at("falsifier").get<std::string>();
  cell.state = parse_name(line.at("state").get<std::string>(), cell_state_name, CellState::kBroken);
  if (!line.contains("by")) return cell;
  for (const json& reading : line.at("by")) {
    cell.by.push_back({.metric = reading.at("metric").get<std::string>(),
                       .worst = number_of(reading.at("worst")),
                       .threshold = number_of(reading.at("threshold")),
                       .larger_is_better = reading.at("larger_is_better").get<bool>()});
  }
  return cell;
}

FaultRow row_of(const json& value) {
  FaultRow row;
  row.fault = value.at("fault").get<std::string>();
  row.host = backend_of(value.at("host"));
  row.equivalent = value.at("equivalent").get<bool>();
  row.hits = value.at("hits").get<std::uint64_t>();
  row.logits_cosine = number_of(value.at("logits_cosine"));
  row.unreached_by = value.at("unreached_by").get<std::size_t>();
  for (const json& line : value.at("cells")) row.cells.push_back(cell_of(line));
  return row;
}

NoiseReading noise_of(const json& line) {
  return {.falsifier = line.at("falsifier").get<std::string>(),
          .backend = backend_of(line.at("backend")),
          .metric = line.at("metric").get<std::string>(),
          .noise = number_of(line.at("noise")),
          .threshold = number_of(line.at("threshold")),
          .larger_is_better = line.at("larger_is_better").get<bool>()};
}

// Every element on a line of its own.
template <typename Items, typename ToJson>
std::string lines_of(const Items& items, const char* indent, const ToJson& to_json) {
  std::string text;
  for (const auto& item : items) {
    text += fmt::format("{}{}{}", text.empty() ? "\n" : ",\n", indent, to_json(item).dump());
  }
  return text;
}

}  // namespace

std::string write_kill_matrix(const KillMatrix& matrix) {
  const ordered_json head = {{"schema", kSchema},
                             {"subject", matrix.subject},
                             {"subject_sha256", matrix.subject_sha256},
                             {"seeds", matrix.seeds},
                             {"cases", matrix.cases}};
  std::string text = head.dump();
  text.pop_back();  // The brace.
  text += ",\n\"faults\": [";
  for (std::size_t i = 0; i < matrix.rows.size(); ++i) {
    const FaultRow& row = matrix.rows[i];
    const ordered_json line = {{"fault", row.fault},
                               {"host", backend_name(row.host)},
                               {"equivalent", row.equivalent},
                               {"hits", row.hits},
                               {"logits_cosine", number(row.logits_cosine)},
                               {"unreached_by", row.unreached_by}};
    std::string opening = line.dump();
    opening.pop_back();
    text += fmt::format("{}{}, \"cells\": [{}\n ]}}", i == 0 ? "\n " : ",\n ", opening,
                        lines_of(row.cells, "  ", cell_to_json));
  }
  text += "\n],\n\"noise\": [";
  text += lines_of(matrix.noise, " ", [](const NoiseReading& reading) {
    return ordered_json{{"falsifier", reading.falsifier},
                        {"backend", backend_name(reading.backend)},
                        {"metric", reading.metric},
                        {"noise", reading_number(reading.noise, reading.larger_is_better)},
                        {"threshold", reading_number(reading.threshold, reading.larger_is_better)},
                        {"larger_is_better", reading.larger_is_better}};
  });
  return text + "\n]}\n";
}

Result<KillMatrix> read_kill_matrix(const std::string& where, std::string_view text) {
  KillMatrix matrix;
  try {
    const json document = json::parse(text);
    if (document.at("schema").get<std::string>() != kSchema) {
      return Error{ErrorKind::kMalformed, where + " schema", kSchema, document.at("schema").dump()};
    }
    matrix.subject = document.at("subject").get<std::string>();
    matrix.subject_sha256 = document.at("subject_sha256").get<std::string>();
    matrix.seeds = document.at("seeds").get<std::vector<std::uint64_t>>();
    matrix.cases = document.at("cases").get<std::size_t>();
    for (const json& row : document.at("faults")) matrix.rows.push_back(row_of(row));
    for (const json& line : document.at("noise")) matrix.noise.push_back(noise_of(line));
  } catch (const std::exception& error) {
    return Error{ErrorKind::kMalformed, where, std::string("a kill matrix (") + kSchema + ")",
                 error.what()};
  }
  return matrix;
}

const KillMatrix& committed_kill_matrix() {
  static const KillMatrix matrix = [] {
    auto read = read_kill_matrix("the embedded kill matrix", embedded_kill_matrix());
    CHECK(read.has_value());  // Built in; a test reads it.
    return *std::move(read);
  }();
  return matrix;
}

const std::string& committed_kill_matrix_sha256() {
  static const std::string digest = sha256_hex(embedded_kill_matrix());
  return digest;
}

}  // namespace refute
