#include "validators/contract_dialect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <span>
#include <utility>

#include "validators/contract_keys.h"
#include "validators/contract_reader.h"
#include "validators/stage_status.h"
#include "validators/suggest.h"
#include "validators/version.h"

namespace refute::internal {
namespace {

const YamlNode* scalar_at(const YamlNode& mapping, std::string_view key) {
  const YamlEntry* entry = mapping.find(key);
  return entry != nullptr && entry->value.kind == NodeKind::kScalar ? &entry->value : nullptr;
}

std::string text_at(const YamlNode& mapping, std::string_view key) {
  const YamlNode* node = scalar_at(mapping, key);
  return node == nullptr ? "" : node->text;
}

// A text, or a list of texts: the dialect writes either.
std::vector<LocatedText> texts_at(const YamlNode& mapping, std::string_view key) {
  std::vector<LocatedText> texts;
  const YamlEntry* entry = mapping.find(key);
  if (entry == nullptr) return texts;
  if (entry->value.kind == NodeKind::kScalar) texts.push_back(located(entry->value));
  for (const YamlNode& item : entry->value.items) {
    if (item.kind == NodeKind::kScalar) texts.push_back(located(item));
  }
  return texts;
}

// The mappings in the list under a key; reports what is there and cannot be counted.
std::vector<const YamlNode*> blocks_at(const YamlNode& root, std::string_view key,
                                       const Contract& contract, Findings& findings) {
  std::vector<const YamlNode*> blocks;
  const YamlEntry* entry = root.find(key);
  if (entry == nullptr || entry->value.kind == NodeKind::kNull) return blocks;
  const auto report = [&](const YamlNode& node) {
    findings.report("RF507", contract.source, node.at, node.length,
                    fmt::format("`{}` should be a list of mappings; {} is not counted", key,
                                node_kind_name(node.kind)));
  };
  if (entry->value.kind != NodeKind::kSequence) report(entry->value);
  for (const YamlNode& item : entry->value.items) {
    if (item.kind == NodeKind::kMapping) {
      blocks.push_back(&item);
    } else {
      report(item);
    }
  }
  return blocks;
}

void collect_statuses(const YamlNode& node, Contract& contract) {
  for (const YamlNode& item : node.items) collect_statuses(item, contract);
  for (const YamlEntry& entry : node.entries) {
    if (entry.key.text == "status" && entry.value.kind == NodeKind::kScalar) {
      contract.status_mentions.push_back(located(entry.value));
    }
    collect_statuses(entry.value, contract);
  }
}

// "Router contract v1.2.0", "version: 1.2.0" or "moe-router-v1 1.2.0"; not the version of some
// other document that a comment mentions.
bool speaks_of_this_contract(std::string_view before, std::string_view id) {
  std::string words;
  for (const char c : before) {
    words += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (words.ends_with(" v")) words.pop_back();
  while (!words.empty() && (words.back() == ' ' || words.back() == ':')) words.pop_back();
  return words.ends_with("contract") || words.ends_with("version") ||
         (!id.empty() && words.ends_with(id));
}

// The comment lines before the first line that is none.
void read_header_version(Contract& contract) {
  const SourceFile& source = contract.source;
  for (std::size_t number = 1; !source.line(number).empty(); ++number) {
    const std::string_view line = source.line(number);
    if (line.front() != '#') return;
    const auto found = find_version(line);
    if (!found || !speaks_of_this_contract(line.substr(0, found->offset), contract.id.text)) {
      continue;
    }
    const Position at{number, count_code_points(line.substr(0, found->offset)) + 1};
    contract.version_mentions.push_back(
        {{std::string(found->text), at, found->text.size()}, "the header comment"});
    return;
  }
}

void read_latest_amendment(const YamlNode& root, Contract& contract) {
  const YamlEntry* history = root.find("amendment_history");
  if (history == nullptr) return;
  std::optional<LocatedText> latest;
  const auto offer = [&](const YamlNode& node) {
    const auto found = find_version(node.text);
    if (!found) return;
    if (latest && *parse_version(latest->text) >= *parse_version(found->text)) return;
    latest = LocatedText{std::string(found->text), node.at, node.length};
  };
  for (const YamlNode& item : history->value.items) {
    if (item.kind == NodeKind::kScalar) offer(item);
    if (const YamlNode* version = scalar_at(item, "version")) offer(*version);
  }
  for (const YamlEntry& entry : history->value.entries) offer(entry.key);
  if (latest) contract.version_mentions.push_back({*latest, "the latest amendment"});
}

void read_versions(const YamlNode& root, Contract& contract) {
  if (const YamlNode* version = scalar_at(root, "version")) {
    contract.version_mentions.push_back({located(*version), "version"});
  }
  if (const YamlEntry* metadata = root.find("metadata")) {
    if (const YamlNode* version = scalar_at(metadata->value, "version")) {
      contract.version_mentions.push_back({located(*version), "metadata.version"});
    }
  }
  read_latest_amendment(root, contract);
  read_header_version(contract);
}

void read_implementation_stages(const YamlNode& root, Contract& contract, Findings& findings) {
  for (const YamlNode* block : blocks_at(root, "implementation_stages", contract, findings)) {
    Stage stage;
    stage.from_dialect = true;
    const YamlNode* id = scalar_at(*block, "id");
    stage.id = id == nullptr ? LocatedText{"", block->at, 1} : located(*id);
    stage.title = text_at(*block, "title");
    stage.description = text_at(*block, "description");
    stage.needs = texts_at(*block, "expected_acceptance");
    if (const YamlNode* status = scalar_at(*block, "status")) {
      stage.claimed_status = located(*status);
    }
    contract.stages.push_back(std::move(stage));
  }
}

void note_foreign_keys(const YamlNode& root, const Contract& contract, Findings& findings) {
  const auto known = dialect_keys();
  for (const YamlEntry& entry : root.entries) {
    const std::string& key = entry.key.text;
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    if (key == "id" || key == "description" || key == "references" || key == "depends_on") continue;
    const auto nearest = nearest_name(key, known);
    findings.report("RF502", contract.source, entry.key.at, entry.key.length,
                    fmt::format("`{}` is not part of the dialect and is read as prose", key),
                    nearest ? fmt::format("did you mean `{}`?", *nearest) : "");
  }
}

void note_statuses(const YamlNode& root, const Contract& contract, Findings& findings) {
  if (!contract.status_mentions.empty()) {
    const LocatedText& first = contract.status_mentions.front();
    const std::size_t count = contract.status_mentions.size();
    findings.report("RF501", contract.source, first.at, first.length,
                    fmt::format("{} claimed {}, not derivable: no bound falsifier", count,
                                count == 1 ? "status" : "statuses"));
  }
  std::vector<LocatedText> ranked;
  if (contract.claimed_status) ranked.push_back(*contract.claimed_status);
  for (const Stage& stage : contract.stages) {
    if (stage.claimed_status) ranked.push_back(*stage.claimed_status);
  }
  if (const YamlEntry* tests = root.find("falsification_tests")) {
    for (const YamlNode& test : tests->value.items) {
      if (const YamlNode* status = scalar_at(test, "status")) ranked.push_back(located(*status));
    }
  }
  for (const LocatedText& status : ranked) {
    if (parse_claimed_status(status.text)) continue;
    findings.report("RF503", contract.source, status.at, status.length,
                    fmt::format("`{}` is no status that is known", status.text),
                    suggest(status.text, status_words()));
  }
}

}  // namespace

void read_dialect_blocks(const YamlNode& root, Contract& contract, Findings& findings) {
  for (const YamlNode* test : blocks_at(root, "falsification_tests", contract, findings)) {
    const YamlNode* id = scalar_at(*test, "id");
    contract.prose_predictions.push_back(
        {id == nullptr ? LocatedText{"", test->at, 1} : located(*id)});
  }
  contract.proof_obligations = blocks_at(root, "proof_obligations", contract, findings).size();
  read_implementation_stages(root, contract, findings);
  read_versions(root, contract);
  collect_statuses(root, contract);
}

void read_dialect_file(const YamlNode& root, Contract& contract, Findings& findings) {
  const YamlNode* name = scalar_at(root, "name");
  contract.id = {std::filesystem::path(contract.source.path()).stem().string(), {1, 1}, 1};
  if (name != nullptr) contract.id.at = name->at;
  const YamlEntry* metadata = root.find("metadata");
  const YamlNode& about = metadata == nullptr ? root : metadata->value;
  contract.version = text_at(about, "version");
  contract.description = text_at(about, "description");
  contract.kind = text_at(about, "kind");
  contract.references = texts_at(about, "references");
  contract.depends_on = texts_at(about, "depends_on");
  if (const YamlNode* status = scalar_at(root, "status"))
    contract.claimed_status = located(*status);
  read_dialect_blocks(root, contract, findings);
  note_foreign_keys(root, contract, findings);
  note_statuses(root, contract, findings);
  if (contract.prose_predictions.empty()) {
    findings.report("RF505", contract.source, {1, 1}, 1, "this file states no prediction");
  }
}

}  // namespace refute::internal
