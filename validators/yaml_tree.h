// A YAML document as a tree in which every node knows its line and column.
//
// Built on yaml-cpp's events rather than its Node, which accepts duplicate keys, cycles and
// unterminated strings. No exception leaves parse_yaml.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "validators/diagnostic.h"
#include "validators/source_file.h"

namespace refute {

inline constexpr std::size_t kMaxYamlDepth = 200;
inline constexpr std::size_t kMaxYamlNodes = 200'000;  // After aliases are expanded.

enum class NodeKind { kNull, kScalar, kSequence, kMapping };

// "nothing", "a text or number", "a list", "a mapping".
std::string_view node_kind_name(NodeKind kind);

struct YamlEntry;

// Aliases are resolved: an alias is a copy of what its anchor names, with the places found there.
struct YamlNode {
  NodeKind kind = NodeKind::kNull;
  Position at;                     // The first character; a null value has the place of its key.
  std::size_t length = 1;          // Code points to underline.
  std::string text;                // Scalars.
  bool quoted = false;             // Scalars: in quotes or a block scalar, so always text.
  std::vector<YamlNode> items;     // Sequences.
  std::vector<YamlEntry> entries;  // Mappings, in file order; keys are scalars and differ.

  // Null when the mapping has no such key, or when this is no mapping.
  const YamlEntry* find(std::string_view key) const;
};

struct YamlEntry {
  YamlNode key;
  YamlNode value;
};

// Reports syntax errors, duplicate keys and the like. Empty when there is no tree to go on with;
// a duplicate key is reported and its first value kept.
std::optional<YamlNode> parse_yaml(const SourceFile& source, Findings& findings);

// The node as one line of JSON-like text without comments, layout or aliases: two nodes that mean
// the same in the same order have the same text.
std::string canonical_text(const YamlNode& node);

}  // namespace refute
