// A recorded run as a file: every trace point in a GGUF file, beside what a comparison must know of
// it, so that two runs of different machines, builds or backends can be held against each other.
//
// Tensors: `tokens` (I32), and one [rows, columns] per trace point, named by TraceSite::name():
// float64 runs as F64, float32 runs as F32, router_index as I32. docs/trace.md lists the metadata.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/trace.h"
#include "kernels/result.h"

namespace refute {

// Where a trace comes from. Empty texts are not known.
struct TraceOrigin {
  std::string subject;       // The model's name.
  std::string model_sha256;  // Of the model's file.
  std::string backend;       // "cpu", "oracle-emulated"; "expectations" for an oracle pack.
  std::string description;   // "cpu (avx512-vnni, 2 threads)"
  std::string version;       // Of the build.
  std::string tree_sha256;   // Of the build's sources.
  std::string routes;        // "own", or "forced" and from where.
  std::string error;         // What ended the forward pass before its end; empty when nothing did.
  std::size_t chunk = 0;     // Tokens a call; 0: all at once.
};

inline constexpr std::string_view kNoReduction = "none";
inline constexpr std::string_view kRowMajor = "row-major";
// Backends of traces beside those of backend_id.h: an oracle pack, and the oracle with the fast
// backends' activations.
inline constexpr std::string_view kExpectationsBackend = "expectations";
inline constexpr std::string_view kEmulatedOracleBackend = "oracle-emulated";

// What every capture says of itself, beside its values. Captures that differ in any of it are never
// compared.
struct CaptureInfo {
  std::size_t first_position = 0;  // Of the token that the first row belongs to.
  std::size_t num_tokens = 0;      // The rows' tokens; each has rows / num_tokens rows.
  std::string reduction{kNoReduction};
  std::string layout{kRowMajor};

  bool operator==(const CaptureInfo&) const = default;
};
// "tokens 0 to 23, reduction none, row-major"
std::string capture_text(const CaptureInfo& info);

struct TraceFile {
  TraceOrigin origin;
  std::vector<std::int32_t> tokens;
  std::map<TraceSite, TraceTensor> tensors;
  std::map<TraceSite, CaptureInfo> captures;  // The same sites.
  std::vector<TraceSite> missing = {};        // Asked for, but origin.error came before them.

  bool is_expectations() const { return origin.backend == kExpectationsBackend; }
};

// A run of `tokens` that started at position 0 and recorded all of `tensors` of all tokens.
// Precondition: tokens and tensors are not empty, and rows are a multiple of the tokens.
TraceFile make_trace_file(TraceOrigin origin, std::vector<std::int32_t> tokens,
                          std::map<TraceSite, TraceTensor> tensors);

// kUnreadable when the path cannot be written.
Result<void> write_trace_file(const TraceFile& trace, const std::filesystem::path& path);

// Reads what write_trace_file wrote, and oracle packs (NAME.expected.gguf), which hold fewer points
// and say less of where they come from. kUnreadable and kMalformed name file and tensor, expected
// and found; a model is refused as one. NaN and Inf are values like any other.
Result<TraceFile> read_trace_file(const std::filesystem::path& path);

// "blk.3.moe_out", "logits"; empty when there is no such trace point. Each has one spelling.
std::optional<TraceSite> parse_trace_site(std::string_view name);

}  // namespace refute
