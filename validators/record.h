// Records: what one run found, bound by hashes to what it was found with. One JSON file a run,
// shaped as an in-toto Statement (https://in-toto.io/Statement/v1) with the predicate
// urn:refute:run:v1.
//
// Numbers that matter to the bit (metrics, thresholds) stand as hex float and as decimal, both
// strings; NaN and infinities are "NaN", "Infinity", "-Infinity". Seeds are strings, because a JSON
// number does not hold 64 bits. A record carries the sha256 of itself: that finds damage and
// careless edits, it is no signature.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend_id.h"
#include "falsifiers/verdict.h"
#include "kernels/result.h"

namespace refute {

// A file that the run was about.
struct HashedFile {
  std::string name;  // Without its folder.
  std::string sha256;
};

// One criterion (a contract's falsifier block) on one backend.
struct RecordedResult {
  std::string contract;  // Its id.
  std::string contract_version;
  std::string contract_sha256;  // Of the file's bytes.
  std::string criterion;        // Id of the falsifier block.
  std::string criterion_sha256;
  std::string falsifier;        // Registered id.
  std::string subject_sha256;   // Of the model; empty when the falsifier needs none.
  std::string expected_sha256;  // Of its expectations; empty when the falsifier needs none.
  BackendId backend = BackendId::kOracle;
  std::string backend_description;  // Device, instruction set, threads.
  std::uint64_t seed = 0;
  std::size_t cases = 0;  // Asked for.
  Verdict verdict;
  // Of the backend's raw float64 outputs in the order of the calls; empty when there was none. The
  // same build, seed and device give the same one.
  std::string outputs_sha256;
  // The backend that executed each layer, "cpu"; empty when the falsifier ran no forward pass.
  std::vector<std::string> executed;
  std::uint64_t duration_us = 0;
};

struct RunRecord {
  std::string started_at;  // UTC, "2026-11-23T10:20:30.123456Z"; its order is the order of time.
  std::uint64_t duration_us = 0;
  std::string version;  // Of the tool, and the next four as in build_info.h.
  std::string tree_sha256;
  std::string compiler;
  std::string flags;
  std::string build_type;
  std::string host;                // Processor and operating system.
  std::string kill_matrix_sha256;  // Empty while there is none.
  std::vector<HashedFile> files;   // Model, expectations, contracts.
  std::vector<RecordedResult> results;
};

// The JSON text, ending with a line break.
std::string write_record(const RunRecord& record);

// Strict: kMalformed, naming `where` and the field, for anything that write_record does not write
// exactly so: a missing, unknown or mistyped field, a digest that does not fit, and a result whose
// verdict its own numbers contradict.
Result<RunRecord> read_record(const std::string& where, std::string_view text);

// Why a result that claims to have held cannot have: no case, a failed case, a reading outside of
// its threshold. Empty when it is consistent.
std::string contradiction(const RecordedResult& result);

}  // namespace refute
