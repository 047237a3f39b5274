#include "validators/yaml_tree.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <map>
#include <set>
#include <sstream>
#include <utility>

namespace refute {
namespace {

// yaml-cpp counts columns in bytes.
Position position_of(const SourceFile& source, const YAML::Mark& mark) {
  if (mark.is_null() || mark.line < 0 || mark.column < 0) return {1, 1};
  const std::size_t line = static_cast<std::size_t>(mark.line) + 1;
  const std::string_view before =
      source.line(line).substr(0, static_cast<std::size_t>(mark.column));
  return {line, count_code_points(before) + 1};
}

// A scalar may stand behind an anchor: `&name "text"`.
std::size_t skip_anchor(std::string_view text, std::size_t offset) {
  if (offset >= text.size() || text[offset] != '&') return offset;
  const std::size_t end = text.find_first_of(" \t\r\n", offset);
  return end == text.npos ? text.size()
                          : std::min(text.find_first_not_of(" \t\r\n", end), text.size());
}

// yaml-cpp takes the end of the file for a closing quote.
bool is_unterminated(std::string_view text, std::size_t offset) {
  offset = skip_anchor(text, offset);
  if (offset >= text.size()) return false;
  const char quote = text[offset];
  if (quote != '"' && quote != '\'') return false;
  for (std::size_t i = offset + 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      if (quote == '"' || i + 1 >= text.size() || text[i + 1] != '\'') return false;
      ++i;
    }
  }
  return true;
}

// Builds the tree from events. After a fatal problem it ignores every further event.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(const SourceFile& source, Findings& findings)
      : source_(source), findings_(findings) {}

  bool failed() const { return failed_; }
  std::size_t documents() const { return documents_; }
  std::optional<YamlNode> take_root() { return std::move(root_); }

  void fail(std::string_view rule, Position at, std::size_t length, const std::string& message,
            std::string_view help = "") {
    if (!failed_) findings_.report(rule, source_, at, length, message, help);
    failed_ = true;
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 2) {
      fail("RF005", place(mark), 3, "a second document starts here",
           "a contract is one file with one document");
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (failed_) return;
    YamlNode node;
    node.at = place(mark);
    if (!open_.empty() && open_.back().key) {
      node.at = open_.back().key->at;
      node.length = open_.back().key->length;
    }
    add_leaf(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (failed_) return;
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      fail("RF009", place(mark), 1, "this alias stands inside of what it names");
      return;
    }
    if (open_.size() + found->second.size.height > kMaxYamlDepth) {
      fail("RF006", place(mark), 1, too_deep());
      return;
    }
    // Counted before the copy is made: aliases of aliases grow exponentially.
    if (count(found->second.size.nodes, place(mark))) {
      add(found->second.node, found->second.size, YAML::NullAnchor);
    }
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (failed_ || !check_tag(mark, tag)) return;
    YamlNode node;
    node.kind = NodeKind::kScalar;
    node.at = place(mark);
    node.text = value;
    node.quoted = tag == "!";
    const std::size_t offset = source_.offset(node.at);
    if (node.quoted && is_unterminated(source_.text(), offset)) {
      fail("RF003", node.at, 1, "this quoted text is never closed");
      return;
    }
    node.length = scalar_length(node, offset);
    add_leaf(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open(NodeKind::kSequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    open(NodeKind::kMapping, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Size {
    std::size_t nodes = 1;
    std::size_t height = 0;  // Levels below the node.
  };
  struct Anchored {
    YamlNode node;
    Size size;
  };
  // A sequence or mapping that is not closed yet.
  struct OpenNode {
    YamlNode node;
    Size size;
    YAML::anchor_t anchor = YAML::NullAnchor;
    std::optional<YamlNode> key;  // A mapping's key that waits for its value.
    std::set<std::string> keys;
  };

  static std::string too_deep() {
    return fmt::format("nested deeper than {} levels", kMaxYamlDepth);
  }

  // Every node held in memory counts: those read, and the copies kept for anchors and aliases.
  bool count(std::size_t nodes, Position at) {
    nodes_ += nodes;
    if (nodes_ <= kMaxYamlNodes) return true;
    fail("RF010", at, 1,
         fmt::format("more than {} values once aliases are expanded", kMaxYamlNodes));
    return false;
  }

  Position place(const YAML::Mark& mark) const { return position_of(source_, mark); }

  bool check_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return true;
    fail("RF011", place(mark), 1, "the tag " + tag + " is not part of a contract",
         "remove the tag: the rules know each key's type");
    return false;
  }

  // Of a scalar on one line; to the end of its first line otherwise.
  std::size_t scalar_length(const YamlNode& node, std::size_t offset) const {
    const std::string_view text = source_.text();
    const bool flow_quoted =
        node.quoted && offset < text.size() && (text[offset] == '"' || text[offset] == '\'');
    if (node.quoted && !flow_quoted) return 1;
    const std::size_t written = count_code_points(node.text) + (flow_quoted ? 2 : 0);
    const std::size_t line = count_code_points(source_.line(node.at.line));
    const std::size_t rest = line >= node.at.column ? line - node.at.column + 1 : 1;
    return std::clamp<std::size_t>(written, 1, rest);
  }

  void open(NodeKind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (failed_ || !check_tag(mark, tag)) return;
    if (open_.size() >= kMaxYamlDepth) {
      fail("RF006", place(mark), 1, too_deep());
      return;
    }
    if (!count(1, place(mark))) return;
    OpenNode& node = open_.emplace_back();
    node.node.kind = kind;
    node.node.at = place(mark);
    node.anchor = anchor;
  }

  void close() {
    if (failed_) return;
    OpenNode done = std::move(open_.back());
    open_.pop_back();
    add(std::move(done.node), done.size, done.anchor);
  }

  void add_leaf(YamlNode node, YAML::anchor_t anchor) {
    if (count(1, node.at)) add(std::move(node), {}, anchor);
  }

  // Puts a finished node where it belongs.
  void add(YamlNode node, Size size, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) {
      if (!count(size.nodes, node.at)) return;
      anchors_[anchor] = {node, size};
    }
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    OpenNode& parent = open_.back();
    parent.size.nodes += size.nodes;
    parent.size.height = std::max(parent.size.height, size.height + 1);
    if (parent.node.kind == NodeKind::kSequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key) {
      take_key(parent, std::move(node));
    } else {
      add_entry(parent, std::move(node));
    }
  }

  void take_key(OpenNode& parent, YamlNode key) {
    if (key.kind != NodeKind::kScalar) {
      fail("RF008", key.at, key.length,
           fmt::format("a key must be a text, not {}", node_kind_name(key.kind)));
      return;
    }
    parent.key = std::move(key);
  }

  void add_entry(OpenNode& parent, YamlNode value) {
    YamlNode key = std::move(*parent.key);
    parent.key.reset();
    if (!parent.keys.insert(key.text).second) {
      const YamlEntry* first = parent.node.find(key.text);
      findings_.report("RF007", source_, key.at, key.length,
                       fmt::format("the key `{}` is here twice", key.text),
                       fmt::format("the first is on line {}", first->key.at.line));
      return;
    }
    parent.node.entries.push_back({std::move(key), std::move(value)});
  }

  const SourceFile& source_;
  Findings& findings_;
  bool failed_ = false;
  std::size_t documents_ = 0;
  std::size_t nodes_ = 0;
  std::optional<YamlNode> root_;
  std::vector<OpenNode> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
};

// yaml-cpp's words, and what they mean to whoever wrote the file.
std::string explain_syntax(const std::string& message) {
  static constexpr std::pair<std::string_view, std::string_view> kMeanings[] = {
      {YAML::ErrorMsg::MAP_VALUE, "a `:` where no value can start; quote a text that holds `: `"},
      {YAML::ErrorMsg::END_OF_MAP, "this does not fit the mapping above it; check the indentation"},
      {YAML::ErrorMsg::END_OF_SEQ, "this does not fit the list above it; check the indentation"},
      {YAML::ErrorMsg::END_OF_MAP_FLOW, "a `{` is never closed"},
      {YAML::ErrorMsg::END_OF_SEQ_FLOW, "a `[` is never closed"},
      {YAML::ErrorMsg::FLOW_END, "a closing bracket without an opening one"},
      {YAML::ErrorMsg::BLOCK_ENTRY, "a `- ` where no list can start"},
      {YAML::ErrorMsg::UNKNOWN_TOKEN, "no value starts with this character; quote the text"},
  };
  for (const auto& [words, meaning] : kMeanings) {
    if (message.starts_with(words)) return std::string(meaning);
  }
  return message;
}

// Reports what yaml-cpp threw, unless a problem found earlier already explains it.
void report_exception(const YAML::Exception& exception, const SourceFile& source,
                      TreeBuilder& builder) {
  const Position at = position_of(source, exception.mark);
  if (exception.msg.starts_with(YAML::ErrorMsg::UNKNOWN_ANCHOR)) {
    builder.fail("RF009", at, 1, "this alias names an anchor that is not defined above it");
    return;
  }
  const std::string_view line = source.line(at.line);
  const std::size_t indent = std::min(line.find_first_not_of(" \t"), line.size());
  const std::size_t tab = line.substr(0, indent).find('\t');
  if (tab != line.npos) {
    builder.fail("RF003", {at.line, tab + 1}, 1, "a tab in the indentation", "indent with spaces");
    return;
  }
  builder.fail("RF003", at, 1, explain_syntax(exception.msg));
}

void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char byte : text) {
    if (byte == '\n') {
      out += "\\n";
      continue;
    }
    if (byte == '"' || byte == '\\') out += '\\';
    out += byte;
  }
  out += '"';
}

void append_canonical(std::string& out, const YamlNode& node) {
  switch (node.kind) {
    case NodeKind::kNull:
      out += "null";
      return;
    case NodeKind::kScalar:
      append_quoted(out, node.text);
      return;
    case NodeKind::kSequence:
      out += '[';
      for (std::size_t i = 0; i < node.items.size(); ++i) {
        if (i > 0) out += ',';
        append_canonical(out, node.items[i]);
      }
      out += ']';
      return;
    case NodeKind::kMapping:
      out += '{';
      for (std::size_t i = 0; i < node.entries.size(); ++i) {
        if (i > 0) out += ',';
        append_quoted(out, node.entries[i].key.text);
        out += ':';
        append_canonical(out, node.entries[i].value);
      }
      out += '}';
      return;
  }
}

}  // namespace

std::string_view node_kind_name(NodeKind kind) {
  switch (kind) {
    case NodeKind::kNull:
      return "nothing";
    case NodeKind::kScalar:
      return "a text or number";
    case NodeKind::kSequence:
      return "a list";
    case NodeKind::kMapping:
      return "a mapping";
  }
  return "unknown";
}

const YamlEntry* YamlNode::find(std::string_view key) const {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [key](const YamlEntry& entry) { return entry.key.text == key; });
  return found == entries.end() ? nullptr : &*found;
}

std::optional<YamlNode> parse_yaml(const SourceFile& source, Findings& findings) {
  if (const Position bad = find_bad_byte(source); bad.line > 0) {
    findings.report("RF002", source, bad, 1, "this byte is not UTF-8 text, or a control character",
                    "save the file as UTF-8");
    return std::nullopt;
  }
  TreeBuilder builder(source, findings);
  try {
    std::istringstream in(source.text());
    YAML::Parser parser(in);
    while (!builder.failed() && parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& exception) {
    report_exception(exception, source, builder);
  } catch (const std::exception& exception) {
    builder.fail("RF003", {1, 1}, 1, std::string("the YAML reader gave up: ") + exception.what());
  }
  if (builder.failed()) return std::nullopt;
  if (builder.documents() == 0) {
    findings.report("RF004", source, {1, 1}, 1, "the file holds no YAML, only blanks or comments");
    return std::nullopt;
  }
  return builder.take_root();
}

std::string canonical_text(const YamlNode& node) {
  std::string text;
  append_canonical(text, node);
  return text;
}

}  // namespace refute
