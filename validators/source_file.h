// A text file held in memory, and places in it.
#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/result.h"

namespace refute {

// A place in a file. Line and column count from 1; columns count Unicode code points, not bytes.
// Line 0 means the file as a whole.
struct Position {
  std::size_t line = 0;
  std::size_t column = 0;
  auto operator<=>(const Position&) const = default;
};

// Files above this size are not contracts.
inline constexpr std::size_t kMaxSourceBytes = 16 * 1024 * 1024;

class SourceFile {
 public:
  SourceFile() = default;
  SourceFile(std::string path, std::string text);

  const std::string& path() const { return path_; }
  const std::string& text() const { return text_; }

  // The text of a line without its line break; empty when there is no such line.
  std::string_view line(std::size_t number) const;

  // The byte offset of a place; text().size() when the place is past the end.
  std::size_t offset(Position at) const;

 private:
  std::string path_;
  std::string text_;
  std::vector<std::size_t> line_starts_;  // Byte offsets; a leading byte order mark is skipped.
};

// Errors: kUnreadable when the file is missing, not a regular file, unreadable or too large.
Result<SourceFile> load_source(const std::string& path);

// The place of the first byte that is not UTF-8 text, or of the first control character; line 0
// when there is none.
Position find_bad_byte(const SourceFile& source);

// The text with every byte that find_bad_byte objects to, and every tab and line break, replaced:
// safe to print on one line of a terminal.
std::string printable(std::string_view text);

// Code points of a valid UTF-8 text.
std::size_t count_code_points(std::string_view text);

}  // namespace refute
