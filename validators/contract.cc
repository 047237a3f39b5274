#include "validators/contract.h"

#include <fmt/format.h>
#include <algorithm>
#include <utility>

#include "validators/contract_dialect.h"
#include "validators/contract_keys.h"
#include "validators/contract_reader.h"
#include "validators/sha256.h"
#include "validators/stage_status.h"
#include "validators/suggest.h"
#include "validators/yaml_tree.h"

namespace refute {
namespace {

using internal::BlockReader;

bool is_one_of_ours(const YamlNode& root) {
  for (const std::string_view key : {"acceptance", "falsifiers", "stages", "shapes"}) {
    if (root.find(key) != nullptr) return true;
  }
  return root.find("id") != nullptr && root.find("metadata") == nullptr;
}

std::string text_or_empty(std::optional<LocatedText> text) {
  return text ? std::move(text->text) : std::string();
}

std::optional<LocatedText> read_status(const SourceFile& source, const BlockReader& reader,
                                       Findings& findings) {
  std::optional<LocatedText> status = reader.text("status");
  if (status && !parse_claimed_status(status->text)) {
    findings.report("RF109", source, status->at, status->length,
                    fmt::format("`{}` is no status", status->text),
                    suggest(status->text, status_words()));
    return std::nullopt;
  }
  return status;
}

// The names under `backends` that are backends; reports the others.
std::vector<LocatedText> read_backends(const SourceFile& source, const BlockReader& reader,
                                       Findings& findings) {
  std::vector<std::string_view> all;
  for (const BackendId id : kAllBackends) all.push_back(backend_name(id));
  std::vector<LocatedText> known;
  for (LocatedText& name : reader.id_list("backends")) {
    if (parse_backend(name.text)) {
      known.push_back(std::move(name));
    } else {
      findings.report("RF403", source, name.at, name.length,
                      fmt::format("{} is no backend", name.text), suggest(name.text, all));
    }
  }
  return known;
}

std::vector<BackendId> to_backend_ids(std::span<const LocatedText> names) {
  std::vector<BackendId> ids;
  for (const LocatedText& name : names) ids.push_back(*parse_backend(name.text));
  return ids;
}

Acceptance read_acceptance(const SourceFile& source, const YamlNode& node, Findings& findings) {
  const BlockReader reader(source, node, "an acceptance criterion", acceptance_keys(), findings);
  Acceptance acceptance;
  acceptance.id = reader.id("id").value_or(LocatedText{"", node.at, 1});
  acceptance.property = text_or_empty(reader.text("property"));
  acceptance.formal = text_or_empty(reader.text("formal"));
  return acceptance;
}

Stage read_stage(const SourceFile& source, const YamlNode& node, Findings& findings) {
  const BlockReader reader(source, node, "a stage", stage_keys(), findings);
  Stage stage;
  stage.id = reader.id("id").value_or(LocatedText{"", node.at, 1});
  stage.title = text_or_empty(reader.text("title"));
  stage.description = text_or_empty(reader.text("description"));
  stage.needs = reader.id_list("needs");
  stage.after = reader.text_list("after");
  stage.backends = to_backend_ids(read_backends(source, reader, findings));
  stage.claimed_status = read_status(source, reader, findings);
  const std::optional<LocatedText> evidence = reader.text("evidence");
  stage.proved_by_validation = evidence && evidence->text == "validation";
  if (evidence && !stage.proved_by_validation) {
    findings.report("RF103", source, evidence->at, evidence->length,
                    fmt::format("`evidence` must be `validation`, found `{}`", evidence->text),
                    "evidence of a run is derived from records, never typed");
  }
  const bool has_needs = reader.value("needs") != nullptr;
  if (has_needs == (reader.value("evidence") != nullptr)) {
    findings.report("RF306", source, stage.id.at, stage.id.length,
                    has_needs ? "a stage has either `needs` or `evidence`, not both"
                              : "this stage needs nothing, so nothing would discharge it",
                    has_needs ? "" : "list acceptance ids in `needs`");
  }
  return stage;
}

FalsifierBlock read_falsifier(const SourceFile& source, const YamlNode& node, Findings& findings) {
  const BlockReader reader(source, node, "a falsifier", falsifier_keys(), findings);
  FalsifierBlock block;
  block.id = reader.id("id").value_or(LocatedText{"", node.at, 1});
  block.falsifier = reader.id("falsifier").value_or(LocatedText{});
  block.acceptance = reader.id_list("acceptance");
  block.backend_names = read_backends(source, reader, findings);
  block.backends = to_backend_ids(block.backend_names);
  block.subjects = reader.id_list("subjects");
  block.cases = reader.count("cases").value_or(block.cases);
  block.gates = reader.gates("gates");
  block.must_kill = reader.id_list("must_kill", "RF411");
  block.blind_to = reader.reasons("blind_to");
  block.if_refuted = text_or_empty(reader.text("if_refuted"));
  block.canonical = canonical_text(node);
  block.sha256 = sha256_hex(block.canonical);
  return block;
}

void read_our_file(const YamlNode& root, Contract& contract, Findings& findings) {
  const SourceFile& source = contract.source;
  const BlockReader reader(source, root, "a contract", contract_keys(), findings, dialect_keys());
  contract.id = reader.id("id").value_or(LocatedText{"", {1, 1}, 1});
  contract.version = text_or_empty(reader.version("version"));
  contract.kind = text_or_empty(reader.text("kind"));
  contract.description = text_or_empty(reader.text("description"));
  contract.claimed_status = read_status(source, reader, findings);
  contract.references = reader.text_list("references");
  contract.depends_on = reader.text_list("depends_on");
  if (const YamlNode* shapes = reader.value("shapes")) {
    contract.shapes = read_shapes(source, *shapes, findings);
  }
  for (const YamlNode* node : reader.mappings("stages")) {
    contract.stages.push_back(read_stage(source, *node, findings));
  }
  for (const YamlNode* node : reader.mappings("acceptance")) {
    contract.acceptance.push_back(read_acceptance(source, *node, findings));
  }
  for (const YamlNode* node : reader.mappings("falsifiers")) {
    contract.falsifiers.push_back(read_falsifier(source, *node, findings));
  }
  internal::read_dialect_blocks(root, contract, findings);
}

}  // namespace

std::string joined(std::span<const LocatedText> texts, std::string_view separator) {
  std::string text;
  for (const LocatedText& part : texts) {
    if (!text.empty()) text += separator;
    text += part.text;
  }
  return text;
}

const Stage* Contract::find_stage(std::string_view stage_id) const {
  const auto found = std::find_if(stages.begin(), stages.end(),
                                  [&](const Stage& stage) { return stage.id.text == stage_id; });
  return found == stages.end() ? nullptr : &*found;
}

const Acceptance* Contract::find_acceptance(std::string_view acceptance_id) const {
  const auto found =
      std::find_if(acceptance.begin(), acceptance.end(),
                   [&](const Acceptance& criterion) { return criterion.id.text == acceptance_id; });
  return found == acceptance.end() ? nullptr : &*found;
}

std::optional<Contract> read_contract(SourceFile source, Findings& findings) {
  const std::optional<YamlNode> root = parse_yaml(source, findings);
  if (!root) return std::nullopt;
  if (root->kind != NodeKind::kMapping) {
    findings.report("RF012", source, root->at, root->length,
                    fmt::format("a contract is a mapping, found {}", node_kind_name(root->kind)));
    return std::nullopt;
  }
  Contract contract;
  contract.source = std::move(source);
  contract.sha256 = sha256_hex(contract.source.text());
  contract.is_ours = is_one_of_ours(*root);
  if (contract.is_ours) {
    read_our_file(*root, contract, findings);
  } else {
    internal::read_dialect_file(*root, contract, findings);
  }
  return contract;
}

}  // namespace refute
