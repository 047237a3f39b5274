// A contract as read from its file: what must hold, what tries to break it, and where each part
// stands in the file.
//
// A file is one of ours when it has a top-level key acceptance, falsifiers, stages or shapes, or an
// `id` without `metadata`; in it every key is known or an error. Any other file is one of the
// public dialect: accepted, its predictions counted as prose.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend_id.h"
#include "validators/contract_shapes.h"
#include "validators/diagnostic.h"
#include "validators/source_file.h"

namespace refute {

// A text with its place.
struct LocatedText {
  std::string text;
  Position at;
  std::size_t length = 1;
};

std::string joined(std::span<const LocatedText> texts, std::string_view separator = ", ");

struct Acceptance {
  LocatedText id;
  std::string property;
  std::string formal;
};

struct Stage {
  LocatedText id;
  std::string title;
  std::string description;
  std::vector<LocatedText> needs;  // Acceptance ids.
  std::vector<LocatedText> after;  // Stage ids.
  // Only evidence on these backends counts for the stage; empty: on all that the falsifiers list.
  std::vector<BackendId> backends;
  std::optional<LocatedText> claimed_status;
  bool proved_by_validation = false;  // `evidence: validation`.
  bool from_dialect = false;          // An entry of implementation_stages.
};

// A bound that the contract sets on a metric.
struct Gate {
  LocatedText metric;
  double bound = 0.0;
  Position bound_at;
  std::size_t bound_length = 1;
};

struct BlindSpot {
  LocatedText fault;
  std::string reason;
};

struct FalsifierBlock {
  LocatedText id;
  LocatedText falsifier;  // The registered name.
  std::vector<LocatedText> acceptance;
  std::vector<LocatedText> backend_names;  // Those that are known; others are reported.
  std::vector<BackendId> backends;         // The same, in the same order.
  std::vector<LocatedText> subjects;
  std::size_t cases = 100;
  std::vector<Gate> gates;
  std::vector<LocatedText> must_kill;
  std::vector<BlindSpot> blind_to;
  std::string if_refuted;
  std::string canonical;  // canonical_text() of the block.
  std::string sha256;     // Of `canonical`: records bind to it.
};

// One place of the file that states the contract's version.
struct VersionMention {
  LocatedText version;
  std::string_view where;  // "version", "metadata.version", "the header comment", ...
};

// A prediction of the public dialect: prose that nothing runs.
struct ProsePrediction {
  LocatedText id;
};

struct Contract {
  SourceFile source;
  std::string sha256;  // Of the file's bytes: records bind to it.
  bool is_ours = false;
  LocatedText id;  // The file's stem for the public dialect, at 1:1.
  std::string version;
  std::string kind;
  std::string description;
  std::optional<LocatedText> claimed_status;
  std::vector<LocatedText> references;
  std::vector<LocatedText> depends_on;
  std::vector<ShapeConstraint> shapes;
  std::vector<Stage> stages;
  std::vector<Acceptance> acceptance;
  std::vector<FalsifierBlock> falsifiers;

  std::vector<VersionMention> version_mentions;
  std::vector<ProsePrediction> prose_predictions;  // falsification_tests.
  std::size_t proof_obligations = 0;
  // Every `status` in the file, also those of bindings and proofs that are no stages.
  std::vector<LocatedText> status_mentions;

  // Null when there is none of that id.
  const Stage* find_stage(std::string_view stage_id) const;
  const Acceptance* find_acceptance(std::string_view acceptance_id) const;
};

// Reads one file and reports every problem of syntax, keys, types and shapes. Empty when there is
// no mapping to read; otherwise as much as could be read.
std::optional<Contract> read_contract(SourceFile source, Findings& findings);

}  // namespace refute
