// The keys of a contract, as data. The reader, the did-you-mean and the JSON Schema all come from
// these tables, so that they cannot drift apart.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace refute {

enum class ValueType {
  kId,           // A text that names something.
  kVersion,      // MAJOR.MINOR.PATCH.
  kText,         // A sentence or more.
  kStatus,       // A claimed status.
  kIdList,       // One or more ids.
  kTextList,     // Texts, possibly none.
  kBackendList,  // One or more of backend_name().
  kCount,        // A whole number from 1 to kMaxCases.
  kGates,        // Metric name to number.
  kReasons,      // Fault id to a sentence.
  kEvidence,     // The word `validation`.
  kShapes,       // Dimension to constraints.
  kStages,       // A list of kStageKeys mappings.
  kAcceptance,   // A list of kAcceptanceKeys mappings.
  kFalsifiers,   // A list of kFalsifierKeys mappings.
};

inline constexpr std::size_t kMaxCases = 1'000'000;

struct KeyInfo {
  std::string_view name;
  ValueType type;
  bool required;
  std::string_view meaning;  // One sentence.
};

std::span<const KeyInfo> contract_keys();
std::span<const KeyInfo> stage_keys();
std::span<const KeyInfo> acceptance_keys();
std::span<const KeyInfo> falsifier_keys();

// Top-level keys of the public dialect, accepted everywhere and read as prose.
std::span<const std::string_view> dialect_keys();

// What shapes speak of: dimensions by their Hugging Face names, and the rows of a call.
std::span<const std::string_view> shape_symbols();

// eq, ge, le, gt, lt, multiple_of, divides.
std::span<const std::string_view> shape_relations();

std::vector<std::string_view> key_names(std::span<const KeyInfo> keys);

}  // namespace refute
