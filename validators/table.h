// Tables of short texts, for terminals and as Markdown.
#pragma once

#include <string>
#include <vector>

#include "validators/style.h"

namespace refute {

struct Cell {
  std::string text;
  Paint paint = Paint::kPlain;
};

class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}

  // As many cells as the header has.
  void add_row(std::vector<Cell> cells);
  bool empty() const { return rows_.empty(); }

  // Columns aligned to the left and two spaces apart, each line after `indent` spaces.
  std::string text(Style style, std::size_t indent = 2) const;
  std::string markdown() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace refute
