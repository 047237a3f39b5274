// The JSON form of a record, shared by its writer and its reader.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "validators/record.h"

namespace refute {

inline constexpr const char* kStatementType = "https://in-toto.io/Statement/v1";
inline constexpr const char* kPredicateType = "urn:refute:run:v1";

// A reading with its numbers as hex float and decimal, both strings.
nlohmann::json metric_to_json(const MetricReading& reading);

// The whole statement, its own digest included. Keys are sorted, so that dump() is canonical.
nlohmann::json record_to_json(const RunRecord& record);

// sha256 of the canonical text of `statement` without the member predicate.statement_sha256.
std::string statement_digest(nlohmann::json statement);

}  // namespace refute
