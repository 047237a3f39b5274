#include "validators/report_catalogue.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "validators/table.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

Json entry_to_json(const CatalogueEntry& entry) {
  Json json = {{"kind", entry.kind}, {"id", entry.id}, {"summary", entry.summary}};
  for (const auto& [heading, text] : entry.details) json[heading] = text;
  return json;
}

std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string entries_as_json(std::span<const CatalogueEntry> entries, Format format) {
  if (format == Format::kJsonl) {
    std::string lines;
    for (const CatalogueEntry& entry : entries) lines += dump(entry_to_json(entry), -1);
    return lines;
  }
  Json list = Json::array();
  for (const CatalogueEntry& entry : entries) list.push_back(entry_to_json(entry));
  return dump(list, 2);
}

// Each line of the text after `margin`.
std::string indented(const std::string& text, const std::string& margin) {
  std::string out = margin;
  for (const char letter : text) {
    out += letter;
    if (letter == '\n') out += margin;
  }
  return out + "\n";
}

std::string explain_human(const CatalogueEntry& entry, Style style) {
  std::string text = entry.kind + " " + paint(style, Paint::kBold, entry.id) + "\n" +
                     indented(entry.summary, "  ");
  for (const auto& [heading, detail] : entry.details) {
    if (detail.empty()) continue;
    text += "\n  " + paint(style, Paint::kFaint, heading) + "\n" + indented(detail, "    ");
  }
  return text;
}

std::string explain_markdown(const CatalogueEntry& entry) {
  std::string text = "## " + entry.kind + " `" + entry.id + "`\n\n" + entry.summary + "\n";
  for (const auto& [heading, detail] : entry.details) {
    if (detail.empty()) continue;
    const bool block = detail.find('\n') != std::string::npos;
    text +=
        "\n**" + heading + "**" + (block ? "\n\n```\n" + detail + "\n```\n" : ": " + detail + "\n");
  }
  return text;
}

}  // namespace

std::string render_list(std::span<const CatalogueEntry> entries, Format format, Style style) {
  if (format == Format::kJson || format == Format::kJsonl) return entries_as_json(entries, format);
  Table table({"id", "summary"});
  for (const CatalogueEntry& entry : entries) {
    table.add_row({{entry.id, Paint::kBold}, {entry.summary}});
  }
  return format == Format::kMarkdown ? table.markdown() : table.text(style, 0);
}

std::string render_explanations(std::span<const CatalogueEntry> entries, Format format,
                                Style style) {
  if (format == Format::kJson || format == Format::kJsonl) return entries_as_json(entries, format);
  std::string text;
  for (const CatalogueEntry& entry : entries) {
    if (!text.empty()) text += "\n";
    text += format == Format::kMarkdown ? explain_markdown(entry) : explain_human(entry, style);
  }
  return text;
}

}  // namespace refute
