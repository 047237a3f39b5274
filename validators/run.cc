#include "validators/run.h"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <map>
#include <system_error>
#include <tuple>
#include <utility>

#include "engine/backend_cuda.h"
#include "falsifiers/registry.h"
#include "validators/contract_shapes.h"
#include "validators/sha256.h"
#include "validators/witness.h"

namespace refute {
namespace {

// The option that leaves the item out; empty when it is selected.
std::string waived_by(const RunItem& item, const RunOptions& options) {
  if (!filter_matches(options.filter, *item.contract, *item.block)) return "--filter";
  const auto& required = options.backends;
  const bool wanted = required.empty() ||
                      std::find(required.begin(), required.end(), item.backend) != required.end();
  if (!wanted) return "--backend";
  // Shared attempts land in the same share, because what they share is what is hashed.
  const std::string work =
      item.block->falsifier.text + " " + std::string(backend_name(item.backend));
  if (!in_partition(options.partition, work)) return "--partition";
  if (options.replay && item.block->falsifier.text != options.replay_falsifier) return "--replay";
  if (options.expectations_waived && item.falsifier != nullptr && item.falsifier->needs_pack) {
    return "--expected none";
  }
  return "";
}

// Whether the subject is one that the block names: `embedded` is the model of the run, `synthetic`
// needs none, `packs` are files with expectations. A path is of this folder or the contract's.
bool is_subject(const Contract& contract, const FalsifierBlock& block,
                const LoadedSubject& subject) {
  return std::any_of(block.subjects.begin(), block.subjects.end(), [&](const LocatedText& name) {
    if (name.text == "embedded" || name.text == "synthetic") return true;
    if (name.text == "packs") return !subject.embedded && subject.pack.has_value();
    if (subject.embedded) return false;
    const std::filesystem::path file = subject.model.path();
    const auto beside = std::filesystem::path(contract.source.path()).parent_path();
    std::error_code error;
    return std::filesystem::equivalent(name.text, file, error) ||
           std::filesystem::equivalent(beside / name.text, file, error);
  });
}

// What the contract asks of a model's shape and the embedded one, whose results statuses rest on,
// is not; empty when it is.
std::string unmet_shape(const RunItem& item, const LoadedSubject& subject) {
  const auto& subjects = item.block->subjects;
  const bool asks_for_it =
      std::any_of(subjects.begin(), subjects.end(),
                  [](const LocatedText& name) { return name.text == "embedded"; });
  if (!subject.embedded || !asks_for_it) return "";
  const ShapeCheck check = check_shapes(item.contract->shapes, dimensions(subject.model.config()));
  return check.violations.empty() ? "" : check.violations.front().message;
}

// Why the item cannot be tried; empty when it can.
std::string obstacle(const RunItem& item, const LoadedSubject& subject, const Backends& backends) {
  if (item.falsifier == nullptr) {
    return "no falsifier named " + item.block->falsifier.text + " is registered";
  }
  const auto can_try = item.falsifier->backends;
  if (std::find(can_try.begin(), can_try.end(), item.backend) == can_try.end()) {
    return item.block->falsifier.text + " cannot try " + std::string(backend_name(item.backend));
  }
  if (!is_subject(*item.contract, *item.block, subject)) {
    return "its subjects are " + joined(item.block->subjects) + ", not " + subject.name +
           ": give --subject FILE";
  }
  if (std::string unmet = unmet_shape(item, subject); !unmet.empty()) {
    return "the model is not of the contract's shapes: " + unmet;
  }
  const BackendSlot& slot = backends.of(item.backend);
  if (slot.backend == nullptr) return slot.unavailable;
  if (item.falsifier->needs_pack && !subject.pack) {
    return "no expectations: give --expected FILE, or --expected none to waive";
  }
  return "";
}

Criterion criterion_of(const RunItem& item, const RunOptions& options) {
  Criterion criterion;
  for (const Gate& gate : item.block->gates) criterion.gates[gate.metric.text] = gate.bound;
  criterion.cases = options.cases.value_or(item.block->cases);
  criterion.seed = options.seed;
  criterion.replay = options.replay;
  return criterion;
}

// What makes two attempts the same.
using AttemptKey = std::tuple<std::string, BackendId, std::size_t, std::map<std::string, double>>;

}  // namespace

Verdict attempt(const FalsifierInfo& falsifier, const Backend& backend, const Criterion& criterion,
                const LoadedSubject& subject, WitnessLog& log) {
  const std::unique_ptr<Backend> witness = make_witness(backend, log);
  const Subject given{
      .backend = *witness,
      .model = falsifier.needs_model || falsifier.needs_pack ? &subject.model : nullptr,
      .pack = falsifier.needs_pack ? &*subject.pack : nullptr,
  };
  return falsifier.falsify(given, criterion);
}

Result<Partition> parse_partition(std::string_view text) {
  const Error error{ErrorKind::kUnsupported, "--partition", "hash:M/N with 1 <= M <= N <= 10000",
                    "`" + std::string(text) + "`"};
  constexpr std::string_view kPrefix = "hash:";
  if (!text.starts_with(kPrefix)) return error;
  const char* end = text.data() + text.size();
  Partition partition;
  const auto index = std::from_chars(text.data() + kPrefix.size(), end, partition.index);
  if (index.ec != std::errc{} || index.ptr == end || *index.ptr != '/') return error;
  const auto count = std::from_chars(index.ptr + 1, end, partition.count);
  if (count.ec != std::errc{} || count.ptr != end) return error;
  if (partition.index < 1 || partition.index > partition.count || partition.count > 10000) {
    return error;
  }
  return partition;
}

bool in_partition(const Partition& partition, std::string_view work) {
  if (partition.count == 1) return true;
  const std::string digest = sha256_hex(work);
  std::uint64_t hash = 0;
  std::from_chars(digest.data(), digest.data() + 15, hash, 16);
  return hash % partition.count == partition.index - 1;
}

bool name_matches(std::string_view filter, std::string_view name) {
  const std::string pattern(filter);
  if (pattern.find_first_of("*?") == std::string::npos) return name.find(filter) != name.npos;
  return fnmatch(pattern.c_str(), std::string(name).c_str(), 0) == 0;
}

bool filter_matches(std::string_view filter, const Contract& contract,
                    const FalsifierBlock& block) {
  if (filter.empty()) return true;
  const auto matches = [&](const std::string& name) { return name_matches(filter, name); };
  return matches(contract.id.text) || matches(block.id.text) || matches(block.falsifier.text) ||
         std::any_of(block.acceptance.begin(), block.acceptance.end(),
                     [&](const LocatedText& id) { return matches(id.text); });
}

RunPlan plan_run(std::span<const Contract> contracts, const RunOptions& options) {
  RunPlan plan;
  for (const Contract& contract : contracts) {
    for (const FalsifierBlock& block : contract.falsifiers) {
      const FalsifierInfo* falsifier = find_falsifier(block.falsifier.text);
      for (const BackendId backend : block.backends) {
        const RunItem item{&contract, &block, falsifier, backend};
        if (std::string option = waived_by(item, options); option.empty()) {
          plan.items.push_back(item);
        } else {
          plan.waived.push_back({item, std::move(option)});
        }
      }
    }
  }
  return plan;
}

void leave_out_inapplicable(const LoadedSubject& subject, RunPlan& plan) {
  if (!subject.pack) return;
  std::vector<RunItem> applicable;
  for (const RunItem& item : plan.items) {
    std::string lacking;
    if (item.falsifier != nullptr && item.falsifier->lacking != nullptr) {
      lacking = item.falsifier->lacking(*subject.pack);
    }
    if (lacking.empty()) {
      applicable.push_back(item);
    } else {
      plan.waived.push_back({item, "expectations without " + lacking});
    }
  }
  plan.items = std::move(applicable);
}

Result<Backends> Backends::create(std::size_t num_threads, std::optional<cpu::Isa> isa,
                                  const CudaOptions& cuda_options) {
  Result<cpu::Context> context = cpu::Context::create(num_threads, isa);
  if (!context) return context.error();
  Backends backends;
  const auto slot = [&](BackendId id) -> BackendSlot& {
    return backends.slots_[static_cast<std::size_t>(id)];
  };
  slot(BackendId::kOracle).backend = make_oracle_backend(ActivationScheme::kExact);
  backends.packing_ = std::make_unique<Progress>();
  const auto show = [bar = backends.packing_.get()](std::size_t done, std::size_t total) {
    constexpr std::size_t kMiB = std::size_t{1} << 20;
    bar->show(done / kMiB, total / kMiB, "MiB of weights packed");
    if (done == total) bar->clear();
  };
  slot(BackendId::kCpu).backend = make_cpu_backend(*std::move(context), show);
  if (Result<std::unique_ptr<Backend>> cuda = make_cuda_backend(cuda_options); cuda) {
    slot(BackendId::kCuda).backend = *std::move(cuda);
  } else if (cuda.error().kind == ErrorKind::kUnsupported) {
    slot(BackendId::kCuda).unavailable = cuda.error().found;
  } else {
    slot(BackendId::kCuda).unavailable = cuda.error().message();
  }
  slot(BackendId::kWgpu).unavailable = "this build has no wgpu backend";
  return backends;
}

std::vector<Outcome> execute(std::span<const RunItem> items, const LoadedSubject& subject,
                             const Backends& backends, const RunOptions& options,
                             RunObserver& observer) {
  std::vector<Outcome> outcomes;
  std::map<AttemptKey, std::size_t> first;  // Index of the outcome that tried it.
  for (std::size_t i = 0; i < items.size(); ++i) {
    const RunItem& item = items[i];
    observer.started(i, items.size(), item);
    Outcome outcome{.item = item,
                    .criterion = criterion_of(item, options),
                    .verdict = {},
                    .outputs_sha256 = "",
                    .executed = {}};
    const AttemptKey key{item.block->falsifier.text, item.backend, outcome.criterion.cases,
                         outcome.criterion.gates};
    if (std::string reason = obstacle(item, subject, backends); !reason.empty()) {
      outcome.verdict = Verdict::not_run(std::move(reason));
    } else if (const auto [found, is_new] = first.emplace(key, i); !is_new) {
      outcome.verdict = outcomes[found->second].verdict;
      outcome.outputs_sha256 = outcomes[found->second].outputs_sha256;
      outcome.executed = outcomes[found->second].executed;
      outcome.duration_us = outcomes[found->second].duration_us;
      outcome.shared = true;
    } else {
      const auto start = std::chrono::steady_clock::now();
      WitnessLog log;
      outcome.verdict = attempt(*item.falsifier, *backends.of(item.backend).backend,
                                outcome.criterion, subject, log);
      outcome.outputs_sha256 = log.outputs_sha256();
      outcome.executed = log.executed();
      const auto took = std::chrono::steady_clock::now() - start;
      outcome.duration_us = static_cast<std::uint64_t>(
          std::chrono::duration_cast<std::chrono::microseconds>(took).count());
    }
    observer.finished(outcome);
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

ExitCode run_exit_code(std::span<const Outcome> outcomes) {
  if (outcomes.empty()) return ExitCode::kNothingSelected;
  const auto any = [&](VerdictKind kind) {
    return std::any_of(outcomes.begin(), outcomes.end(),
                       [&](const Outcome& outcome) { return outcome.verdict.kind == kind; });
  };
  if (any(VerdictKind::kRefuted) || any(VerdictKind::kGaveUp)) return ExitCode::kRefutedOrInvalid;
  if (any(VerdictKind::kError)) return ExitCode::kInternal;
  if (any(VerdictKind::kNotRun)) return ExitCode::kRequiredNotRun;
  return ExitCode::kHeld;
}

}  // namespace refute
