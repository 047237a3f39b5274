// Reading typed values from a mapping, with a report for each key that is unknown, missing or of
// the wrong type. For contract.cc and contract_dialect.cc only.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "validators/contract.h"
#include "validators/contract_keys.h"
#include "validators/diagnostic.h"
#include "validators/yaml_tree.h"

namespace refute::internal {

LocatedText located(const YamlNode& node);

class BlockReader {
 public:
  // `what` names the block to people: "the falsifier". Also accepts the keys in `also_known`.
  // Reports unknown and missing keys at once. The arguments outlive the reader.
  BlockReader(const SourceFile& source, const YamlNode& mapping, std::string_view what,
              std::span<const KeyInfo> keys, Findings& findings,
              std::span<const std::string_view> also_known = {});

  // Null when the key is absent. A value of null counts as empty.
  const YamlNode* value(std::string_view key) const;

  // Each reports what it finds wrong and then gives an empty value, as for an absent key.
  std::optional<LocatedText> text(std::string_view key) const;
  std::optional<LocatedText> id(std::string_view key) const;
  std::optional<LocatedText> version(std::string_view key) const;
  std::vector<LocatedText> text_list(std::string_view key) const;
  // Reports `empty_rule` on a list of nothing, and RF110 on an entry that is there twice.
  std::vector<LocatedText> id_list(std::string_view key,
                                   std::string_view empty_rule = "RF104") const;
  std::vector<Gate> gates(std::string_view key) const;
  std::vector<BlindSpot> reasons(std::string_view key) const;
  // At least 1 and at most kMaxCases.
  std::optional<std::size_t> count(std::string_view key) const;
  // The mappings of a list of them; whatever else is in it is reported.
  std::vector<const YamlNode*> mappings(std::string_view key) const;

 private:
  void report(std::string_view rule, const YamlNode& at, std::string_view message,
              std::string_view help = "") const;
  void report_type(std::string_view key, const YamlNode& found, std::string_view expected) const;
  std::optional<LocatedText> read_text(std::string_view key, const YamlNode& node) const;
  // The value of a key if it is of this kind.
  const YamlNode* value_of_kind(std::string_view key, NodeKind kind,
                                std::string_view expected) const;

  const SourceFile& source_;
  const YamlNode& mapping_;
  std::string_view what_;
  Findings& findings_;
};

}  // namespace refute::internal
