// The text of each contract is edited line by line: what a careless hand does.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>

#include "falsifiers/registry.h"
#include "validators/contract_keys.h"
#include "validators/selftest/mutants.h"
#include "validators/validate.h"

namespace refute {
namespace {

using Lines = std::vector<std::string>;

Lines lines_of(const std::string& text) {
  Lines lines;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::string text_of(const Lines& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// "  - id: X" and "    property: Y": where the key starts, the key, and whether it has a value on
// its line. An empty key for every other line.
struct KeyLine {
  std::size_t indent = 0;  // Of the key itself.
  bool opens_entry = false;
  std::string key;
  std::string value;
};

KeyLine key_line(const std::string& line) {
  KeyLine found;
  found.indent = line.find_first_not_of(' ');
  if (found.indent == std::string::npos || line[found.indent] == '#') return {};
  if (line.compare(found.indent, 2, "- ") == 0) {
    found.opens_entry = true;
    found.indent += 2;
  }
  const std::size_t colon = line.find(':', found.indent);
  if (colon == std::string::npos) return {};
  found.key = line.substr(found.indent, colon - found.indent);
  const bool is_name = std::all_of(found.key.begin(), found.key.end(),
                                   [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
  if (!is_name || found.key.empty()) return {};
  found.value = line.substr(std::min(colon + 2, line.size()));
  return found;
}

// Applies one mutation to one contract and looks for an error that has a place.
class Bench {
 public:
  Bench(const char* id, const Contract& contract, MutantOutcome& outcome)
      : contract_(contract), outcome_(outcome), lines_(lines_of(contract.source.text())) {
    outcome_.id = id;
  }

  const Lines& lines() const { return lines_; }

  void expect_red(const Lines& mutant, const std::string& what) {
    RuleContext context;
    context.falsifiers = falsifier_registry();
    context.faults = fault_catalogue();
    std::vector<SourceFile> sources;
    sources.emplace_back(contract_.source.path(), text_of(mutant));
    const ValidateResult result = validate_sources(std::move(sources), context);
    const bool red = std::any_of(
        result.diagnostics.begin(), result.diagnostics.end(), [](const Diagnostic& found) {
          return found.severity == Severity::kError && found.at.line > 0 && found.at.column > 0;
        });
    ++outcome_.tried;
    if (!red) outcome_.green.push_back(contract_.source.path() + ": " + what);
  }

  // Line `index` (from 0) replaced by `text`, which may be several lines or none.
  void replace(std::size_t index, const std::string& text, const std::string& what) {
    Lines mutant = lines_;
    mutant.erase(mutant.begin() + static_cast<std::ptrdiff_t>(index));
    const Lines added = lines_of(text);
    mutant.insert(mutant.begin() + static_cast<std::ptrdiff_t>(index), added.begin(), added.end());
    expect_red(mutant, what);
  }

 private:
  const Contract& contract_;
  MutantOutcome& outcome_;
  Lines lines_;
};

using Mutate = std::function<void(const Contract& contract, Bench& bench)>;

MutantOutcome on_each(const char* id, std::span<const Contract> contracts, const Mutate& mutate) {
  MutantOutcome outcome;
  outcome.id = id;
  for (const Contract& contract : contracts) {
    if (!contract.is_ours) continue;
    Bench bench(id, contract, outcome);
    mutate(contract, bench);
  }
  return outcome;
}

// `block` is the top-level key that the line stands under.
bool is_required(const KeyLine& line, std::string_view block) {
  const auto keys = line.indent == 0        ? contract_keys()
                    : block == "stages"     ? stage_keys()
                    : block == "acceptance" ? acceptance_keys()
                    : block == "falsifiers" ? falsifier_keys()
                                            : std::span<const KeyInfo>{};
  return std::any_of(keys.begin(), keys.end(),
                     [&](const KeyInfo& key) { return key.required && key.name == line.key; });
}

void drop_a_field(const Contract&, Bench& bench) {
  const Lines& lines = bench.lines();
  std::string block;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const KeyLine line = key_line(lines[i]);
    if (line.key.empty()) continue;
    if (line.indent == 0) block = line.key;
    if (line.value.empty() || !is_required(line, block)) continue;
    if (line.value[0] == '>' || line.value[0] == '|') continue;  // Goes on below.
    Lines mutant = lines;
    mutant.erase(mutant.begin() + static_cast<std::ptrdiff_t>(i));
    // The next key opens the entry instead.
    if (line.opens_entry) {
      if (i >= mutant.size() || key_line(mutant[i]).indent != line.indent) continue;
      mutant[i][line.indent - 2] = '-';
    }
    bench.expect_red(mutant, fmt::format("line {}: {}", i + 1, line.key));
  }
}

void duplicate_a_key(const Contract&, Bench& bench) {
  const Lines& lines = bench.lines();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const KeyLine line = key_line(lines[i]);
    if (line.key.empty() || line.value.empty()) continue;
    if (line.value[0] == '>' || line.value[0] == '|') continue;
    const std::string again(line.indent, ' ');
    bench.replace(i, lines[i] + "\n" + again + line.key + ": " + line.value,
                  fmt::format("line {}: {}", i + 1, line.key));
  }
}

// Every block's gates, or new ones, with this bound on its falsifier's first metric.
Mutate tolerance_of(const std::string& bound) {
  return [bound](const Contract&, Bench& bench) {
    const Lines& lines = bench.lines();
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const KeyLine line = key_line(lines[i]);
      if (line.key != "falsifier") continue;
      const FalsifierInfo* falsifier = find_falsifier(line.value);
      if (falsifier == nullptr || falsifier->metrics.empty()) continue;
      Lines mutant = lines;
      // The gates of the same block go, so that the key is not there twice.
      for (std::size_t j = i + 1; j < mutant.size() && !key_line(mutant[j]).opens_entry; ++j) {
        if (key_line(mutant[j]).key == "gates") mutant[j].clear();
      }
      mutant.insert(mutant.begin() + static_cast<std::ptrdiff_t>(i + 1),
                    fmt::format("{}gates: {{{}: {}}}", std::string(line.indent, ' '),
                                falsifier->metrics.front().name, bound));
      bench.expect_red(mutant, fmt::format("line {}: {}", i + 1, line.value));
    }
  };
}

void unknown_falsifier(const Contract&, Bench& bench) {
  const Lines& lines = bench.lines();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (key_line(lines[i]).key == "falsifier") {
      bench.replace(i, lines[i] + "_not", fmt::format("line {}", i + 1));
    }
  }
}

void unknown_stage(const Contract& contract, Bench& bench) {
  for (const Stage& stage : contract.stages) {
    if (stage.from_dialect || !stage.after.empty()) continue;
    const std::size_t index = stage.id.at.line - 1;
    const KeyLine line = key_line(bench.lines()[index]);
    bench.replace(
        index,
        bench.lines()[index] + "\n" + std::string(line.indent, ' ') + "after: [NO-SUCH-STAGE]",
        stage.id.text);
  }
}

void shape_of_0(const Contract& contract, Bench& bench) {
  for (const ShapeConstraint& shape : contract.shapes) {
    const std::size_t index = shape.at.line - 1;
    const KeyLine line = key_line(bench.lines()[index]);
    if (line.key != shape.symbol) continue;
    bench.replace(index, std::string(line.indent, ' ') + line.key + ": {multiple_of: 0}",
                  shape.symbol);
  }
}

void alias_cycle(const Contract&, Bench& bench) {
  const Lines& lines = bench.lines();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const KeyLine line = key_line(lines[i]);
    const bool is_list = !line.value.empty() && line.value[0] == '[';
    if (line.key.empty() || !is_list || line.opens_entry) continue;
    bench.replace(i, std::string(line.indent, ' ') + line.key + ": &loop [*loop]",
                  fmt::format("line {}: {}", i + 1, line.key));
  }
}

}  // namespace

std::vector<MutantOutcome> try_contract_mutants(std::span<const Contract> contracts) {
  return {on_each("C1", contracts, drop_a_field),
          on_each("C2", contracts, duplicate_a_key),
          on_each("C3", contracts, tolerance_of(".inf")),
          on_each("C4", contracts, tolerance_of(".nan")),
          on_each("C5", contracts, tolerance_of("-1e-3")),
          on_each("C6", contracts, tolerance_of("1e9")),
          on_each("C7", contracts, tolerance_of("\"1e-3\"")),
          on_each("C8", contracts, unknown_falsifier),
          on_each("C9", contracts, unknown_stage),
          on_each("C10", contracts, shape_of_0),
          on_each("C11", contracts, alias_cycle)};
}

}  // namespace refute
