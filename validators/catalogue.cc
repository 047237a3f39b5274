#include "validators/catalogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "falsifiers/fault_catalogue.h"
#include "falsifiers/registry.h"
#include "kernels/check.h"
#include "kernels/quant/tensor_type.h"
#include "validators/catalogue_faults.h"
#include "validators/catalogue_words.h"
#include "validators/mutant_catalogue.h"
#include "validators/rules.h"
#include "validators/shell_words.h"
#include "validators/suggest.h"

namespace refute {
namespace {

using Entries = std::vector<CatalogueEntry>;

std::string place_of(const Contract& contract, const LocatedText& id) {
  return fmt::format("{}:{}:{}", contract.source.path(), id.at.line, id.at.column);
}

Entries falsifiers(std::span<const Contract>) {
  Entries entries;
  for (const FalsifierInfo& falsifier : falsifier_registry()) {
    std::string backends;
    for (const BackendId backend : falsifier.backends) {
      backends += (backends.empty() ? "" : ", ") + std::string(backend_name(backend));
    }
    std::string metrics;
    for (const MetricInfo& metric : falsifier.metrics) {
      metrics += fmt::format("{}{} {} {:g}: {}", metrics.empty() ? "" : "\n", metric.name,
                             metric.larger_is_better ? ">=" : "<=", metric.ceiling, metric.meaning);
    }
    const char* needs = falsifier.needs_pack    ? "a model and its expectations"
                        : falsifier.needs_model ? "a model"
                                                : "nothing but the backend";
    entries.push_back({"falsifier",
                       std::string(falsifier.id),
                       std::string(falsifier.claim),
                       {{"why it must hold", std::string(falsifier.why)},
                        {"catches", std::string(falsifier.catches)},
                        {"misses", std::string(falsifier.misses)},
                        {"source", std::string(falsifier.source)},
                        {"metrics and the loosest bounds a contract may set", metrics},
                        {"kills, as measured", faults_killed_by(falsifier.id)},
                        {"reaches and does not see, as measured", faults_missed_by(falsifier.id)},
                        {"noise, threshold, weakest fault", margins_of(falsifier.id)},
                        {"backends", backends},
                        {"needs", needs}}});
  }
  return entries;
}

Entries rules(std::span<const Contract>) {
  Entries entries;
  for (const RuleInfo& rule : rule_table()) {
    entries.push_back({"rule",
                       std::string(rule.id),
                       std::string(rule.summary),
                       {{"name", std::string(rule.name)},
                        {"severity", std::string(severity_name(rule.severity))},
                        {"why", std::string(rule.why)},
                        {"breaks it", std::string(rule.bad)},
                        {"put right", std::string(rule.good)}}});
  }
  return entries;
}

Entries faults(std::span<const Contract>) { return fault_entries(); }

Entries mutants(std::span<const Contract>) {
  Entries entries;
  for (const MutantInfo& mutant : mutant_catalogue()) {
    entries.push_back(
        {"mutant",
         std::string(mutant.id),
         std::string(mutant.title),
         {{"turns red by", std::string(mutant.turns_red)}, {"try it", "refute selftest"}}});
  }
  return entries;
}

Entries types(std::span<const Contract>) {
  Entries entries;
  for (const TensorTypeInfo& type : tensor_types()) {
    entries.push_back(
        {"type",
         std::string(type.name),
         fmt::format("{} elements in {} bytes; {}{}", type.block_size, type.block_bytes,
                     type.is_weight ? "holds weights" : "holds expectations only",
                     type.is_quantized ? ", its products take int8 activations" : ""),
         {}});
  }
  return entries;
}

Entries contracts_of(std::span<const Contract> contracts) {
  Entries entries;
  for (const Contract& contract : contracts) {
    entries.push_back(
        {"contract",
         contract.id.text,
         contract.description.empty() ? contract.kind : contract.description,
         {{"version", contract.version},
          {"file", contract.source.path()},
          {"sha256", contract.sha256},
          {"holds", fmt::format("{} stages, {} acceptance criteria, {} falsifier blocks",
                                contract.stages.size(), contract.acceptance.size(),
                                contract.falsifiers.size())}}});
  }
  return entries;
}

Entries stages(std::span<const Contract> contracts) {
  Entries entries;
  for (const Contract& contract : contracts) {
    for (const Stage& stage : contract.stages) {
      entries.push_back(
          {"stage",
           stage.id.text,
           stage.title.empty() ? stage.description : stage.title,
           {{"contract", contract.id.text},
            {"place", place_of(contract, stage.id)},
            {"needs", joined(stage.needs)},
            {"comes after", joined(stage.after)},
            {"proved by",
             stage.proved_by_validation ? "the validation of its contract" : "records"},
            {"its status", "refute status " + contract.source.path()}}});
    }
  }
  return entries;
}

Entries acceptance(std::span<const Contract> contracts) {
  Entries entries;
  for (const Contract& contract : contracts) {
    for (const Acceptance& criterion : contract.acceptance) {
      std::string tried_by;
      for (const FalsifierBlock& block : contract.falsifiers) {
        const bool cites =
            std::any_of(block.acceptance.begin(), block.acceptance.end(),
                        [&](const LocatedText& id) { return id.text == criterion.id.text; });
        if (cites) tried_by += (tried_by.empty() ? "" : ", ") + block.id.text;
      }
      entries.push_back({"acceptance",
                         criterion.id.text,
                         criterion.property,
                         {{"formal", criterion.formal},
                          {"contract", contract.id.text},
                          {"place", place_of(contract, criterion.id)},
                          {"tried by", tried_by}}});
    }
  }
  return entries;
}

Entries criteria(std::span<const Contract> contracts) {
  Entries entries;
  for (const Contract& contract : contracts) {
    for (const FalsifierBlock& block : contract.falsifiers) {
      std::string gates;
      for (const Gate& gate : block.gates) {
        gates += fmt::format("{}{} {:g}", gates.empty() ? "" : ", ", gate.metric.text, gate.bound);
      }
      std::string blind;
      for (const BlindSpot& spot : block.blind_to) {
        blind += (blind.empty() ? "" : "\n") + spot.fault.text + ": " + spot.reason;
      }
      entries.push_back({"criterion",
                         block.id.text,
                         "runs " + block.falsifier.text + " on " + joined(block.backend_names),
                         {{"contract", contract.id.text},
                          {"place", place_of(contract, block.id)},
                          {"acceptance", joined(block.acceptance)},
                          {"subjects", joined(block.subjects)},
                          {"cases", std::to_string(block.cases)},
                          {"gates", gates},
                          {"must kill", joined(block.must_kill)},
                          {"blind to", blind},
                          {"if refuted", block.if_refuted},
                          {"run it", run_command(contract, block)}}});
    }
  }
  return entries;
}

struct Kind {
  std::string_view name;
  bool from_contracts;
  Entries (*entries)(std::span<const Contract>);
};

constexpr std::array<Kind, 13> kKinds = {{
    {"falsifiers", false, falsifiers},
    {"rules", false, rules},
    {"faults", false, faults},
    {"mutants", false, mutants},
    {"contracts", true, contracts_of},
    {"stages", true, stages},
    {"acceptance", true, acceptance},
    {"criteria", true, criteria},
    {"backends", false, [](std::span<const Contract>) { return backend_words(); }},
    {"types", false, types},
    {"statuses", false, [](std::span<const Contract>) { return status_meanings(); }},
    {"verdicts", false, [](std::span<const Contract>) { return verdict_words(); }},
    {"exit-codes", false, [](std::span<const Contract>) { return exit_code_words(); }},
}};

constexpr auto kKindNames = [] {
  std::array<std::string_view, kKinds.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kKinds[i].name;
  return names;
}();

const Kind& kind_of(std::string_view name) {
  const auto* found = std::find_if(kKinds.begin(), kKinds.end(),
                                   [&](const Kind& kind) { return kind.name == name; });
  CHECK(found != kKinds.end());
  return *found;
}

bool same_id(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  });
}

bool is_named(const CatalogueEntry& entry, std::string_view id) {
  if (same_id(entry.id, id)) return true;
  return entry.kind == "rule" && same_id(entry.details.front().second, id);
}

}  // namespace

std::span<const std::string_view> catalogue_kinds() { return kKindNames; }

bool comes_from_contracts(std::string_view kind) { return kind_of(kind).from_contracts; }

Entries list_entries(std::string_view kind, std::span<const Contract> contracts) {
  return kind_of(kind).entries(contracts);
}

Entries find_entries(std::string_view id, std::span<const Contract> contracts) {
  Entries found;
  for (const Kind& kind : kKinds) {
    for (CatalogueEntry& entry : kind.entries(contracts)) {
      if (is_named(entry, id)) found.push_back(std::move(entry));
    }
  }
  return found;
}

std::string suggest_entry(std::string_view id, std::span<const Contract> contracts) {
  std::vector<std::string> ids;
  for (const Kind& kind : kKinds) {
    for (CatalogueEntry& entry : kind.entries(contracts)) ids.push_back(std::move(entry.id));
  }
  const std::vector<std::string_view> views(ids.begin(), ids.end());
  const auto nearest = nearest_name(id, views);
  return nearest ? fmt::format("; did you mean `{}`?", *nearest) : "";
}

}  // namespace refute
