#include "validators/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

namespace refute {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFolderMark = "schema/contract.schema.json";

bool is_contract_file(const fs::path& path) {
  return path.extension() == ".yaml" || path.extension() == ".yml";
}

// The contract files under a folder, sorted; an error where it cannot be read.
Result<std::vector<std::string>> list_contracts(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    const bool hidden = entry->path().filename().string().starts_with('.');
    std::error_code no_matter;
    if (entry->is_directory(no_matter)) {
      if (hidden) entry.disable_recursion_pending();
    } else if (!hidden && is_contract_file(entry->path())) {
      files.push_back(entry->path().string());
    }
  }
  if (error) return Error{ErrorKind::kUnreadable, folder, "a readable folder", error.message()};
  std::sort(files.begin(), files.end());
  return files;
}

// What the paths stand for.
struct Selection {
  std::vector<SourceFile> sources;
  std::set<std::string> beside;  // Stems of the contract files beside those selected.
  std::optional<std::string> whole_folder;
  std::size_t unreadable = 0;
};

class Selector {
 public:
  explicit Selector(Findings& findings) : findings_(findings) {}

  void add(const std::string& path) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
      add_file(path);
      return;
    }
    const Result<std::vector<std::string>> files = list_contracts(path);
    if (!files) {
      report_unreadable(path, files.error());
      return;
    }
    if (fs::exists(fs::path(path) / kFolderMark, error)) selection_.whole_folder = path;
    for (const std::string& file : *files) add_file(file);
  }

  Selection take() && { return std::move(selection_); }

 private:
  void add_file(const std::string& path) {
    std::error_code error;
    const fs::path real = fs::weakly_canonical(path, error);
    if (!error && !seen_.insert(real.string()).second) return;
    Result<SourceFile> source = load_source(path);
    if (!source) {
      report_unreadable(path, source.error());
      return;
    }
    selection_.sources.push_back(std::move(*source));
    const fs::path folder = fs::path(path).parent_path();
    if (!folders_.insert(folder.string()).second) return;
    for (const fs::directory_entry& entry :
         fs::directory_iterator(folder.empty() ? fs::path(".") : folder, error)) {
      if (is_contract_file(entry.path())) selection_.beside.insert(entry.path().stem().string());
    }
  }

  void report_unreadable(const std::string& path, const Error& error) {
    ++selection_.unreadable;
    findings_.report("RF001", SourceFile(path, ""), {}, 1,
                     fmt::format("expected {}, found {}", error.expected, error.found));
  }

  Findings& findings_;
  Selection selection_;
  std::set<std::string> seen_;
  std::set<std::string> folders_;
};

void count_findings(Findings findings, ValidateResult& result) {
  result.diagnostics = std::move(findings).take_sorted();
  for (const Diagnostic& found : result.diagnostics) {
    if (found.severity == Severity::kError) ++result.errors;
    if (found.severity == Severity::kWarning) ++result.warnings;
    if (found.severity == Severity::kNote) ++result.notes;
  }
}

std::size_t count_cited(std::span<const Contract> contracts, const RuleContext& context) {
  std::set<std::string_view> cited;
  for (const Contract& contract : contracts) {
    for (const FalsifierBlock& block : contract.falsifiers) {
      if (const FalsifierInfo* info = context.find_falsifier(block.falsifier.text)) {
        cited.insert(info->id);
      }
    }
  }
  return cited.size();
}

ValidateResult validate(Selection selection, const RuleContext& context, Findings findings) {
  ValidateResult result;
  result.files = selection.sources.size();
  result.unreadable = selection.unreadable;
  for (SourceFile& source : selection.sources) {
    if (auto contract = read_contract(std::move(source), findings)) {
      result.contracts.push_back(std::move(*contract));
    }
  }
  for (const Contract& contract : result.contracts) {
    check_versions(contract, findings);
    check_stages(contract, findings);
    check_falsifiers(contract, context, findings);
  }
  check_run(result.contracts, selection.beside, findings);
  if (selection.whole_folder) {
    check_all_cited(result.contracts, *selection.whole_folder, context, findings);
  }
  for (const Contract& contract : result.contracts) {
    check_statuses(contract, context, findings);
    result.denominators.push_back(count(contract, context));
    result.total += result.denominators.back();
  }
  result.registered_falsifiers = context.falsifiers.size();
  result.cited_falsifiers = count_cited(result.contracts, context);
  count_findings(std::move(findings), result);
  return result;
}

}  // namespace

Denominators& Denominators::operator+=(const Denominators& other) {
  acceptance += other.acceptance;
  bound += other.bound;
  falsification_tests += other.falsification_tests;
  proof_obligations += other.proof_obligations;
  falsifiers += other.falsifiers;
  stages += other.stages;
  claimed_statuses += other.claimed_statuses;
  return *this;
}

std::string describe(const Denominators& denominators) {
  const auto counted = [](std::size_t count, std::string_view one, std::string_view many) {
    return fmt::format("{} {}", count, count == 1 ? one : many);
  };
  std::string text = fmt::format("{}: {} bound, {} prose only",
                                 counted(denominators.predictions(), "prediction", "predictions"),
                                 denominators.bound, denominators.prose_only());
  if (denominators.proof_obligations > 0) {
    text += "; " +
            counted(denominators.proof_obligations, "proof obligation", "proof obligations") +
            ": prose only";
  }
  text += "; " + counted(denominators.stages, "stage", "stages");
  return text + "; " + counted(denominators.claimed_statuses, "claimed status", "claimed statuses");
}

Denominators count(const Contract& contract, const RuleContext& context) {
  std::set<std::string_view> attacked;
  for (const FalsifierBlock& block : contract.falsifiers) {
    if (context.find_falsifier(block.falsifier.text) == nullptr) continue;
    for (const LocatedText& id : block.acceptance) attacked.insert(id.text);
  }
  Denominators denominators;
  denominators.acceptance = contract.acceptance.size();
  denominators.bound = static_cast<std::size_t>(std::count_if(
      contract.acceptance.begin(), contract.acceptance.end(),
      [&](const Acceptance& criterion) { return attacked.contains(criterion.id.text); }));
  denominators.falsification_tests = contract.prose_predictions.size();
  denominators.proof_obligations = contract.proof_obligations;
  denominators.falsifiers = contract.falsifiers.size();
  denominators.stages = contract.stages.size();
  denominators.claimed_statuses = contract.status_mentions.size();
  return denominators;
}

ExitCode ValidateResult::exit_code() const {
  if (unreadable > 0) return ExitCode::kUsageOrUnreadable;
  if (files == 0) return ExitCode::kNothingSelected;
  return errors > 0 ? ExitCode::kRefutedOrInvalid : ExitCode::kHeld;
}

bool ValidateResult::is_valid(const Contract& contract) const {
  return std::none_of(diagnostics.begin(), diagnostics.end(), [&](const Diagnostic& found) {
    return found.severity == Severity::kError && found.file == contract.source.path();
  });
}

ValidateResult validate_sources(std::vector<SourceFile> sources, const RuleContext& context,
                                const std::set<std::string>& beside,
                                const std::optional<std::string>& whole_folder) {
  return validate({std::move(sources), beside, whole_folder, 0}, context, Findings());
}

ValidateResult validate_paths(std::span<const std::string> paths, const RuleContext& context) {
  Findings findings;
  Selector selector(findings);
  for (const std::string& path : paths) selector.add(path);
  return validate(std::move(selector).take(), context, std::move(findings));
}

}  // namespace refute
