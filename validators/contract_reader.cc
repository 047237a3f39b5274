#include "validators/contract_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

#include "validators/scalar.h"
#include "validators/suggest.h"
#include "validators/version.h"

namespace refute::internal {
namespace {

// Entries of lists may be paths: a subject can be a file.
enum class Paths { kNo, kYes };

bool is_id(std::string_view text, Paths paths) {
  const auto is_letter_or_digit = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0;
  };
  const bool is_path = paths == Paths::kYes && text.find('/') != text.npos;
  return !text.empty() && (is_path || is_letter_or_digit(text.front())) &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-' ||
                  (is_path && c == '/');
         });
}

}  // namespace

LocatedText located(const YamlNode& node) { return {node.text, node.at, node.length}; }

BlockReader::BlockReader(const SourceFile& source, const YamlNode& mapping, std::string_view what,
                         std::span<const KeyInfo> keys, Findings& findings,
                         std::span<const std::string_view> also_known)
    : source_(source), mapping_(mapping), what_(what), findings_(findings) {
  const std::vector<std::string_view> names = key_names(keys);
  for (const YamlEntry& entry : mapping.entries) {
    const std::string& key = entry.key.text;
    if (std::find(names.begin(), names.end(), key) != names.end()) continue;
    if (std::find(also_known.begin(), also_known.end(), key) != also_known.end()) continue;
    report("RF101", entry.key, fmt::format("{} has no key `{}`", what, key), suggest(key, names));
  }
  for (const KeyInfo& key : keys) {
    if (key.required && mapping.find(key.name) == nullptr) {
      report("RF102", mapping, fmt::format("{} lacks the key `{}`", what, key.name), key.meaning);
    }
  }
}

const YamlNode* BlockReader::value(std::string_view key) const {
  const YamlEntry* entry = mapping_.find(key);
  return entry == nullptr ? nullptr : &entry->value;
}

std::optional<LocatedText> BlockReader::text(std::string_view key) const {
  const YamlNode* node = value(key);
  return node == nullptr ? std::nullopt : read_text(key, *node);
}

std::optional<LocatedText> BlockReader::id(std::string_view key) const {
  std::optional<LocatedText> id = text(key);
  if (id && !is_id(id->text, Paths::kNo)) {
    findings_.report("RF105", source_, id->at, id->length,
                     fmt::format("`{}` is no {}: letters, digits, `.`, `_`, `-` only", id->text,
                                 key == "id" ? "id" : key));
    return std::nullopt;
  }
  return id;
}

std::optional<LocatedText> BlockReader::version(std::string_view key) const {
  const YamlNode* node = value_of_kind(key, NodeKind::kScalar, "a version");
  if (node == nullptr) return std::nullopt;
  if (!parse_version(node->text)) {
    report("RF107", *node, fmt::format("`{}` is no version", node->text),
           "write MAJOR.MINOR.PATCH, such as 1.0.0");
    return std::nullopt;
  }
  return located(*node);
}

std::vector<LocatedText> BlockReader::text_list(std::string_view key) const {
  std::vector<LocatedText> texts;
  const YamlNode* node = value_of_kind(key, NodeKind::kSequence, "a list of texts");
  if (node == nullptr) return texts;
  for (const YamlNode& item : node->items) {
    if (auto entry = read_text(key, item)) texts.push_back(std::move(*entry));
  }
  return texts;
}

std::vector<LocatedText> BlockReader::id_list(std::string_view key,
                                              std::string_view empty_rule) const {
  std::vector<LocatedText> ids;
  const YamlNode* node = value(key);
  if (node == nullptr) return ids;
  if (node->kind == NodeKind::kNull || (node->kind == NodeKind::kSequence && node->items.empty())) {
    report(empty_rule, *node, fmt::format("`{}` of {} names nothing", key, what_));
    return ids;
  }
  std::set<std::string> seen;
  for (LocatedText& entry : text_list(key)) {
    if (!seen.insert(entry.text).second) {
      findings_.report("RF110", source_, entry.at, entry.length,
                       fmt::format("`{}` is in `{}` twice", entry.text, key));
      continue;
    }
    if (!is_id(entry.text, Paths::kYes)) {
      findings_.report("RF105", source_, entry.at, entry.length,
                       fmt::format("`{}` in `{}` is no id: letters, digits, `.`, `_`, `-` only",
                                   entry.text, key));
      continue;
    }
    ids.push_back(std::move(entry));
  }
  return ids;
}

std::vector<Gate> BlockReader::gates(std::string_view key) const {
  std::vector<Gate> gates;
  const YamlNode* node = value_of_kind(key, NodeKind::kMapping, "a mapping of metrics to numbers");
  if (node == nullptr) return gates;
  for (const YamlEntry& entry : node->entries) {
    const YamlNode& bound = entry.value;
    const auto number =
        bound.kind == NodeKind::kScalar && !bound.quoted ? parse_number(bound.text) : std::nullopt;
    if (!number) {
      const bool is_quoted_number = bound.quoted && parse_number(bound.text);
      report("RF408", bound,
             fmt::format("the gate on {} must be a number, found {}", entry.key.text,
                         bound.kind == NodeKind::kScalar ? fmt::format("the text `{}`", bound.text)
                                                         : node_kind_name(bound.kind)),
             is_quoted_number ? "remove the quotes" : "");
      continue;
    }
    gates.push_back({located(entry.key), *number, bound.at, bound.length});
  }
  return gates;
}

std::vector<BlindSpot> BlockReader::reasons(std::string_view key) const {
  std::vector<BlindSpot> spots;
  const YamlNode* node = value_of_kind(key, NodeKind::kMapping, "a mapping of faults to reasons");
  if (node == nullptr) return spots;
  for (const YamlEntry& entry : node->entries) {
    if (auto reason = read_text(entry.key.text, entry.value)) {
      spots.push_back({located(entry.key), std::move(reason->text)});
    }
  }
  return spots;
}

std::optional<std::size_t> BlockReader::count(std::string_view key) const {
  const YamlNode* node = value(key);
  if (node == nullptr) return std::nullopt;
  const auto number =
      node->kind == NodeKind::kScalar && !node->quoted ? parse_integer(node->text) : std::nullopt;
  if (!number || *number < 1 || *number > static_cast<std::int64_t>(kMaxCases)) {
    report("RF406", *node,
           fmt::format("`{}` must be a whole number from 1 to {}, found {}", key, kMaxCases,
                       node->kind == NodeKind::kScalar ? fmt::format("`{}`", node->text)
                                                       : node_kind_name(node->kind)));
    return std::nullopt;
  }
  return static_cast<std::size_t>(*number);
}

std::vector<const YamlNode*> BlockReader::mappings(std::string_view key) const {
  std::vector<const YamlNode*> blocks;
  const YamlNode* node = value_of_kind(key, NodeKind::kSequence, "a list of mappings");
  if (node == nullptr) return blocks;
  if (node->items.empty()) report("RF104", *node, fmt::format("`{}` is empty", key));
  for (const YamlNode& item : node->items) {
    if (item.kind == NodeKind::kMapping) {
      blocks.push_back(&item);
    } else {
      report_type(fmt::format("an entry of {}", key), item, "a mapping");
    }
  }
  return blocks;
}

void BlockReader::report(std::string_view rule, const YamlNode& at, std::string_view message,
                         std::string_view help) const {
  findings_.report(rule, source_, at.at, at.length, message, help);
}

void BlockReader::report_type(std::string_view key, const YamlNode& found,
                              std::string_view expected) const {
  if (found.kind == NodeKind::kNull) {
    report("RF104", found, fmt::format("`{}` is empty, expected {}", key, expected));
    return;
  }
  const bool is_text = found.kind == NodeKind::kScalar;
  report("RF103", found,
         fmt::format("`{}` must be {}, found {}", key, expected,
                     is_text ? fmt::format("`{}`", found.text) : node_kind_name(found.kind)),
         is_text && expected.starts_with("a list") ? fmt::format("write [{}]", found.text) : "");
}

std::optional<LocatedText> BlockReader::read_text(std::string_view key,
                                                  const YamlNode& node) const {
  if (node.kind != NodeKind::kScalar) {
    report_type(key, node, "a text");
    return std::nullopt;
  }
  if (node.text.find_first_not_of(" \t\r\n") == node.text.npos) {
    report("RF104", node, fmt::format("`{}` is an empty text", key));
    return std::nullopt;
  }
  if (!node.quoted && is_number_or_bool(node.text)) {
    report("RF103", node, fmt::format("`{}` must be a text, found the value {}", key, node.text),
           fmt::format("write \"{}\" if a text is meant", node.text));
    return std::nullopt;
  }
  return located(node);
}

const YamlNode* BlockReader::value_of_kind(std::string_view key, NodeKind kind,
                                           std::string_view expected) const {
  const YamlNode* node = value(key);
  if (node == nullptr || node->kind == kind) return node;
  report_type(key, *node, expected);
  return nullptr;
}

}  // namespace refute::internal
