// Running the falsifiers that contracts cite: what is selected, and what became of each.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend.h"
#include "engine/cuda_options.h"
#include "falsifiers/falsifier.h"
#include "kernels/cpu/context.h"
#include "kernels/result.h"
#include "validators/contract.h"
#include "validators/exit_code.h"
#include "validators/progress.h"
#include "validators/subject_files.h"

namespace refute {

// One of `count` shares of the work, so that machines can split it: hash:index/count, from 1.
struct Partition {
  std::size_t index = 1;
  std::size_t count = 1;
};
// "hash:2/4"; kUnsupported for anything else.
Result<Partition> parse_partition(std::string_view text);
// Whether a piece of work, named by a text, falls into this share.
bool in_partition(const Partition& partition, std::string_view work);

// A glob when `filter` holds * or ?, else a part of the name.
bool name_matches(std::string_view filter, std::string_view name);

struct RunOptions {
  std::vector<BackendId> backends;  // Those required; empty: all that the contracts list.
  std::string filter;               // Glob or part of an id; empty: everything.
  Partition partition;
  std::optional<std::size_t> cases;  // Instead of each block's own.
  std::uint64_t seed = 1;
  std::optional<std::string> replay;
  std::string replay_falsifier;      // The one that `replay` belongs to.
  bool expectations_waived = false;  // Leave out what needs expectations.
};

// A criterion on one backend. Borrows from the contracts, which must outlive it.
struct RunItem {
  const Contract* contract = nullptr;
  const FalsifierBlock* block = nullptr;
  const FalsifierInfo* falsifier = nullptr;  // Null when nothing of that name is registered.
  BackendId backend = BackendId::kOracle;
};

// What the options left out.
struct WaivedItem {
  RunItem item;
  std::string by;  // "--backend"
};

struct RunPlan {
  std::vector<RunItem> items;  // In the order of contracts, blocks and backends.
  std::vector<WaivedItem> waived;
};

RunPlan plan_run(std::span<const Contract> contracts, const RunOptions& options);

// Leaves out what needs an optional part of the expectations (a greedy continuation, say) that
// these do not hold: such a criterion does not apply to this subject.
void leave_out_inapplicable(const LoadedSubject& subject, RunPlan& plan);

// Whether the filter (a glob when it holds * or ?, else a part of the name) fits one of: the
// contract's id, the block's id, its falsifier, an acceptance it cites.
bool filter_matches(std::string_view filter, const Contract& contract, const FalsifierBlock& block);

// The backends of this build on this machine; where one is missing, the reason.
struct BackendSlot {
  std::unique_ptr<Backend> backend;
  std::string unavailable;
};
class Backends {
 public:
  // num_threads 0 takes the number of processors; the CPU's instruction set is the best one unless
  // it is given (kUnsupported where the machine lacks it). `cuda` is for the CUDA backend.
  static Result<Backends> create(std::size_t num_threads, std::optional<cpu::Isa> isa = {},
                                 const CudaOptions& cuda = {});
  const BackendSlot& of(BackendId id) const { return slots_[static_cast<std::size_t>(id)]; }

 private:
  std::unique_ptr<Progress> packing_;  // Of a large model's weights; the CPU backend draws on it.
  std::array<BackendSlot, kAllBackends.size()> slots_;
};

class WitnessLog;  // validators/witness.h

// One attempt, observed by `log`. The falsifier gets no more of the subject than it declares, so
// that its result depends on no more. Precondition: the subject has what it needs.
Verdict attempt(const FalsifierInfo& falsifier, const Backend& backend, const Criterion& criterion,
                const LoadedSubject& subject, WitnessLog& log);

struct Outcome {
  RunItem item;
  Criterion criterion;  // As the falsifier got it.
  Verdict verdict;
  std::string outputs_sha256;         // Of the backend's raw outputs, in the order of the calls.
  std::vector<std::string> executed;  // The backend that executed each layer.
  std::uint64_t duration_us = 0;
  bool shared = false;  // The same attempt as an earlier one's, not tried again.
};

class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual void started(std::size_t index, std::size_t total, const RunItem& item) = 0;
  virtual void finished(const Outcome& outcome) = 0;
};

// Tries every item in order. Items that cite the same falsifier with the same criterion on the same
// backend are tried once.
std::vector<Outcome> execute(std::span<const RunItem> items, const LoadedSubject& subject,
                             const Backends& backends, const RunOptions& options,
                             RunObserver& observer);

// 1 when anything was refuted or gave up; else 3 when an attempt itself failed; else 5 when one was
// not run; else 4 when there is none; else 0.
ExitCode run_exit_code(std::span<const Outcome> outcomes);

}  // namespace refute
