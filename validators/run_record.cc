#include "validators/run_record.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "validators/build_info.h"
#include "validators/host.h"
#include "validators/kill_matrix.h"

namespace refute {
namespace {

std::string utc_text(std::chrono::system_clock::time_point time) {
  using std::chrono::microseconds;
  const auto since_epoch = std::chrono::duration_cast<microseconds>(time.time_since_epoch());
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)),
                     since_epoch.count() % 1'000'000);
}

RecordedResult result_of(const Outcome& outcome, const LoadedSubject& subject,
                         const Backends& backends) {
  const RunItem& item = outcome.item;
  const bool needs_pack = item.falsifier != nullptr && item.falsifier->needs_pack;
  const bool needs_model = item.falsifier != nullptr && (item.falsifier->needs_model || needs_pack);
  const BackendSlot& slot = backends.of(item.backend);
  return {.contract = item.contract->id.text,
          .contract_version = item.contract->version,
          .contract_sha256 = item.contract->sha256,
          .criterion = item.block->id.text,
          .criterion_sha256 = item.block->sha256,
          .falsifier = item.block->falsifier.text,
          .subject_sha256 = needs_model ? subject.model_sha256 : "",
          .expected_sha256 = needs_pack ? subject.pack_sha256 : "",
          .backend = item.backend,
          .backend_description = slot.backend == nullptr ? "" : slot.backend->description(),
          .seed = outcome.criterion.seed,
          .cases = outcome.criterion.cases,
          .verdict = outcome.verdict,
          .outputs_sha256 = outcome.outputs_sha256,
          .executed = outcome.executed,
          .duration_us = outcome.duration_us};
}

}  // namespace

RunRecord make_record(std::span<const Outcome> outcomes, const LoadedSubject& subject,
                      const Backends& backends, std::chrono::system_clock::time_point started,
                      std::uint64_t duration_us) {
  const BuildInfo& build = build_info();
  RunRecord record{.started_at = utc_text(started),
                   .duration_us = duration_us,
                   .version = std::string(build.version),
                   .tree_sha256 = std::string(build.tree_sha256),
                   .compiler = std::string(build.compiler),
                   .flags = std::string(build.flags),
                   .build_type = std::string(build.build_type),
                   .host = describe(read_host_info()),
                   .kill_matrix_sha256 = committed_kill_matrix_sha256(),
                   .files = {},
                   .results = {}};
  record.files.push_back({subject.name, subject.model_sha256});
  if (subject.pack) record.files.push_back({subject.pack_name, subject.pack_sha256});
  std::set<const Contract*> seen;
  for (const Outcome& outcome : outcomes) {
    const Contract* contract = outcome.item.contract;
    if (seen.insert(contract).second) {
      const std::filesystem::path path = contract->source.path();
      record.files.push_back({path.filename().string(), contract->sha256});
    }
    record.results.push_back(result_of(outcome, subject, backends));
  }
  return record;
}

}  // namespace refute
