#include "validators/table.h"

#include <algorithm>
#include <cstddef>

#include "kernels/check.h"
#include "validators/source_file.h"

namespace refute {
namespace {

void append_padded(std::string& out, Style style, const Cell& cell, std::size_t width, bool last) {
  out += paint(style, cell.paint, cell.text);
  const std::size_t length = count_code_points(cell.text);
  if (!last) out += std::string(width - std::min(width, length) + 2, ' ');
}

std::string markdown_cell(const std::string& text) {
  std::string escaped;
  for (const char letter : text) {
    if (letter == '|') escaped += '\\';
    escaped += letter == '\n' ? ' ' : letter;
  }
  return escaped;
}

}  // namespace

void Table::add_row(std::vector<Cell> cells) {
  CHECK(cells.size() == header_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text(Style style, std::size_t indent) const {
  std::vector<std::size_t> widths;
  for (const std::string& name : header_) widths.push_back(count_code_points(name));
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      widths[c] = std::max(widths[c], count_code_points(row[c].text));
    }
  }
  std::string out(indent, ' ');
  for (std::size_t c = 0; c < header_.size(); ++c) {
    append_padded(out, style, {header_[c], Paint::kFaint}, widths[c], c + 1 == header_.size());
  }
  out += '\n';
  for (const auto& row : rows_) {
    out += std::string(indent, ' ');
    for (std::size_t c = 0; c < row.size(); ++c) {
      append_padded(out, style, row[c], widths[c], c + 1 == row.size());
    }
    while (out.back() == ' ') out.pop_back();
    out += '\n';
  }
  return out;
}

std::string Table::markdown() const {
  std::string out = "|";
  for (const std::string& name : header_) out += " " + markdown_cell(name) + " |";
  out += "\n|";
  for (std::size_t c = 0; c < header_.size(); ++c) out += "---|";
  out += "\n";
  for (const auto& row : rows_) {
    out += "|";
    for (const Cell& cell : row) out += " " + markdown_cell(cell.text) + " |";
    out += "\n";
  }
  return out;
}

}  // namespace refute
