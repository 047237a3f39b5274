// The kill matrix: which falsifier kills which seeded fault on which backend, by which metric and
// by how much, and what the same falsifiers measure without a fault. `refute selftest` measures it;
// contracts/kill-matrix.json is the committed one, which the binary carries.
//
// A cell is killed when the falsifier refuted by its own metric or check on every seed. A crash, a
// timeout, or valid input that gave an error is no kill.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend_id.h"
#include "falsifiers/verdict.h"
#include "kernels/result.h"

namespace refute {

enum class CellState {
  kKilled,
  kSurvived,  // Reached, and held on some seed.
  kTrapped,   // Refuted only because valid input gave an error or NaN.
  kBroken,    // Crashed, timed out, gave up, or the attempt failed.
};
// "killed", "survived", "trapped", "broken".
std::string_view cell_state_name(CellState state);

// A metric that a fault pushed past its bound on every seed.
struct KillReading {
  std::string metric;
  double worst = 0.0;  // The weakest over the seeds.
  double threshold = 0.0;
  bool larger_is_better = false;

  // How many times its bound: the distance from perfection over that of the threshold. Infinity
  // past a bound of 0.
  double margin() const;
};

// One falsifier against one fault that it reaches.
struct KillCell {
  std::string falsifier;
  CellState state = CellState::kSurvived;
  std::vector<KillReading> by;  // The largest margin first; empty for a kill by a check alone.

  // Of the first reading; infinity for a kill by a check.
  double margin() const;
};

// One fault on one backend.
struct FaultRow {
  std::string fault;
  BackendId host = BackendId::kOracle;
  bool equivalent = false;
  std::uint64_t hits = 0;  // Of one attempt that reached it, the largest.
  // What the popular gate sees: the lowest cosine of a token's logits with those without the fault.
  // NaN when the fault left no logits to compare.
  double logits_cosine = 1.0;
  std::vector<KillCell> cells;   // Those that reach it, sorted by falsifier.
  std::size_t unreached_by = 0;  // Falsifiers tried on this backend that do not reach it.

  bool killed() const;
  const KillCell* find(std::string_view falsifier) const;
};

// What a falsifier measures without a fault.
struct NoiseReading {
  std::string falsifier;
  BackendId backend = BackendId::kOracle;
  std::string metric;
  double noise = 0.0;  // The worst over the seeds.
  double threshold = 0.0;
  bool larger_is_better = false;
};

// How a metric's threshold stands between noise and faults. A kill is separated when its value F
// has F >= 3 N and threshold <= sqrt(N F), with N the noise; where there is no noise at all, when
// threshold <= F / 2.
struct ThresholdMargin {
  std::string falsifier;
  std::string metric;
  double noise = 0.0;      // N, a distance from perfection, the worst over the backends.
  double threshold = 0.0;  // The same of the bound.
  double floor = 0.0;      // F, the smallest of the separated kills; infinity when there is none.
  std::string fault;       // Whose it is.

  double geometric_mean() const;  // sqrt(N F), or F / 2 without noise.
};

struct KillMatrix {
  std::string subject;
  std::string subject_sha256;
  std::vector<std::uint64_t> seeds;
  std::size_t cases = 0;            // Of each property, with a fault.
  std::vector<FaultRow> rows;       // In the order of the catalogue, then of the backends.
  std::vector<NoiseReading> noise;  // Sorted by falsifier, backend.

  const FaultRow* find(std::string_view fault, BackendId host) const;
  // Whether the falsifier kills the fault on one of the backends.
  bool kills(std::string_view falsifier, std::string_view fault,
             std::span<const BackendId> backends) const;
  // Whether it does so by a check, or by a metric that is separated from the noise.
  bool kills_clearly(std::string_view falsifier, std::string_view fault,
                     std::span<const BackendId> backends) const;
  // One for each falsifier and metric that has noise readings, sorted.
  std::vector<ThresholdMargin> margins() const;
  // The falsifiers that kill the fault on some backend, the largest margin first.
  std::vector<std::string> killers(std::string_view fault) const;
};

// How far a value is from perfection: itself for an error, 1 - value for a share or a cosine.
double distance_from_perfect(double value, bool larger_is_better);

// JSON with one cell a line, so that differences read well. Errors to 4 digits, which is
// enough to say how far a fault is from its bound; cosines and shares whole.
std::string write_kill_matrix(const KillMatrix& matrix);
// kMalformed naming `where` and the field for anything that write_kill_matrix does not write.
Result<KillMatrix> read_kill_matrix(const std::string& where, std::string_view text);

// The matrix that the binary carries, read once.
const KillMatrix& committed_kill_matrix();
// sha256 of its bytes.
const std::string& committed_kill_matrix_sha256();

// What `measured` lost against `committed`: a sentence for each kill or row that is no
// more on a backend that was measured, and for each threshold that was loosened. With `partial`,
// what was not measured is not lost.
std::vector<std::string> lost_kills(const KillMatrix& committed, const KillMatrix& measured,
                                    bool partial);
// What it gained: kills and rows that the committed one does not show.
std::vector<std::string> gained_kills(const KillMatrix& committed, const KillMatrix& measured);

}  // namespace refute
