// What a falsifier is: code that tries to break one claim about one subject on one backend.
//
// A new one is a file falsifiers/<subject>_<claim>.{h,cc}, its test, one line in registry.cc and
// one criterion in a contract.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/backend_id.h"
#include "falsifiers/verdict.h"

namespace refute {

class Backend;     // engine/backend.h
class Model;       // engine/model.h
class OraclePack;  // falsifiers/oracle_pack.h

// What is under test.
struct Subject {
  const Backend& backend;        // The one that the claim is about.
  const Model* model = nullptr;  // The loaded model; never null for falsifiers with needs_model.
  const OraclePack* pack = nullptr;  // Its expectations; never null for those with needs_pack.
};

// How hard to try and what to hold against it: a contract's falsifier block.
struct Criterion {
  std::map<std::string, double>
      gates;                // Bounds by metric name; a metric not named has its ceiling.
  std::size_t cases = 100;  // Property cases per property.
  std::uint64_t seed = 0;
  std::optional<std::string> replay;  // Repeat exactly this case (Verdict::replay_token).
  // Whether a failing case is shrunk; off where only the verdict counts.
  bool shrink = true;
  // Whether a falsifier goes on after its first failure; off where only the verdict counts.
  bool thorough = true;
};

struct MetricInfo {
  std::string_view name;     // "relative_l2"
  std::string_view meaning;  // One sentence, with the unit.
  bool larger_is_better;     // Cosine: at least the bound. Errors: at most.
  double ceiling;            // The loosest bound that a contract may set, and the default.
};

struct FalsifierInfo {
  std::string_view id;     // "router.weights_sum_to_one"
  std::string_view claim;  // One sentence, with tolerance and unit.
  std::string_view why;    // Why it must hold.
  std::string_view catches;
  std::string_view misses;
  std::string_view source;
  std::span<const MetricInfo> metrics;
  std::span<const BackendId> backends;  // Those it can try.
  bool needs_model;
  bool needs_pack;
  Verdict (*falsify)(const Subject& subject, const Criterion& criterion);
  // Names the optional part of the expectations that it needs and `pack` lacks; an empty text when
  // nothing is lacking. Null: it needs no optional part.
  std::string_view (*lacking)(const OraclePack& pack) = nullptr;
  // What it measures is a time: it says nothing of a build with fault sites, and the selftest
  // leaves it out.
  bool measures_time = false;
};

}  // namespace refute
