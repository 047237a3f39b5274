// RF106, RF308, RF402, RF504 and RF506: rules on all contracts of a run together.
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <string>

#include "validators/rules_check.h"
#include "validators/suggest.h"

namespace refute {
namespace {

// Where an id was first given, and as what.
struct Definition {
  const Contract* contract = nullptr;
  const LocatedText* id = nullptr;
  std::string_view what;
  bool is_prose = false;
};

class Definitions {
 public:
  explicit Definitions(Findings& findings) : findings_(findings) {}

  void add(const Definition& definition) {
    const std::string& id = definition.id->text;
    if (id.empty()) return;
    const auto [first, is_new] = first_.try_emplace(id, definition);
    if (is_new) return;
    const bool both_prose = definition.is_prose && first->second.is_prose;
    findings_.report(both_prose ? "RF506" : "RF106", definition.contract->source, definition.id->at,
                     definition.id->length,
                     fmt::format("the id {} is already that of {} at {}:{}", id, first->second.what,
                                 first->second.contract->source.path(), first->second.id->at.line));
  }

 private:
  Findings& findings_;
  std::map<std::string, Definition> first_;
};

// A dependency may be written with its file ending.
std::string dependency_id(const std::string& name) {
  const std::filesystem::path path(name);
  return path.extension() == ".yaml" || path.extension() == ".yml" ? path.stem().string() : name;
}

}  // namespace

void check_run(std::span<const Contract> contracts, const std::set<std::string>& beside,
               Findings& findings) {
  Definitions definitions(findings);
  std::set<std::string> known = beside;
  for (const Contract& contract : contracts) {
    known.insert(contract.id.text);
    // Two prose files of one name in different folders are no clash.
    if (contract.is_ours) definitions.add({&contract, &contract.id, "a contract"});
    for (const Stage& stage : contract.stages) {
      definitions.add({&contract, &stage.id, "a stage", stage.from_dialect});
    }
    for (const Acceptance& criterion : contract.acceptance) {
      definitions.add({&contract, &criterion.id, "an acceptance criterion"});
    }
    for (const FalsifierBlock& block : contract.falsifiers) {
      definitions.add({&contract, &block.id, "a falsifier"});
    }
    for (const ProsePrediction& prediction : contract.prose_predictions) {
      definitions.add({&contract, &prediction.id, "a prediction", true});
    }
  }
  const std::vector<std::string_view> names(known.begin(), known.end());
  for (const Contract& contract : contracts) {
    for (const LocatedText& dependency : contract.depends_on) {
      if (known.contains(dependency_id(dependency.text))) continue;
      findings.report(contract.is_ours ? "RF308" : "RF504", contract.source, dependency.at,
                      dependency.length,
                      fmt::format("there is no contract {} in this run", dependency.text),
                      suggest(dependency.text, names));
    }
  }
}

void check_all_cited(std::span<const Contract> contracts, const std::string& folder,
                     const RuleContext& context, Findings& findings) {
  std::set<std::string_view> cited;
  for (const Contract& contract : contracts) {
    for (const FalsifierBlock& block : contract.falsifiers) cited.insert(block.falsifier.text);
  }
  const SourceFile whole_folder(folder, "");
  for (const FalsifierInfo& info : context.falsifiers) {
    if (cited.contains(info.id)) continue;
    findings.report("RF402", whole_folder, {}, 1,
                    fmt::format("no contract cites the falsifier {}", info.id), info.claim);
  }
}

}  // namespace refute
