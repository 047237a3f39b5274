#include "validators/source_file.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

namespace refute {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

// The bytes of the code point that starts the text, or 0 when it is not one that a text may hold:
// malformed, overlong, a surrogate, or a control character other than tab and line breaks.
std::size_t valid_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) {
    if (lead == '\r') return text.size() > 1 && text[1] == '\n' ? 1 : 0;
    return lead == '\t' || lead == '\n' || (lead >= 0x20 && lead != 0x7F) ? 1 : 0;
  }
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (length == 0 || lead > 0xF4 || text.size() < length) return 0;
  std::uint32_t code = lead & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(text[i])) return 0;
    code = (code << 6U) | (static_cast<unsigned char>(text[i]) & 0x3FU);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  const bool control = code < 0xA0;
  if (code < kSmallest[length] || code > 0x10FFFF || surrogate || control) return 0;
  return length;
}

Error unreadable(const std::string& path, std::string expected, std::string found) {
  return {ErrorKind::kUnreadable, path, std::move(expected), std::move(found)};
}

}  // namespace

SourceFile::SourceFile(std::string path, std::string text)
    : path_(std::move(path)), text_(std::move(text)) {
  line_starts_.push_back(text_.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0);
  for (std::size_t i = 0; i < text_.size(); ++i) {
    if (text_[i] == '\n') line_starts_.push_back(i + 1);
  }
}

std::string_view SourceFile::line(std::size_t number) const {
  if (number == 0 || number > line_starts_.size()) return {};
  const std::size_t begin = line_starts_[number - 1];
  std::size_t end = number < line_starts_.size() ? line_starts_[number] - 1 : text_.size();
  if (end > begin && text_[end - 1] == '\r') --end;
  return std::string_view(text_).substr(begin, end - begin);
}

std::size_t SourceFile::offset(Position at) const {
  if (at.line == 0 || at.line > line_starts_.size()) return text_.size();
  std::size_t offset = line_starts_[at.line - 1];
  for (std::size_t column = 1; column < at.column && offset < text_.size(); ++column) {
    ++offset;
    while (offset < text_.size() && is_continuation(text_[offset])) ++offset;
  }
  return offset;
}

Result<SourceFile> load_source(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return unreadable(path, "a file", "nothing there");
  if (!std::filesystem::is_regular_file(status)) {
    return unreadable(path, "a regular file", "something else");
  }
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return unreadable(path, "a readable file", error.message());
  if (size > kMaxSourceBytes) {
    return unreadable(path, "at most " + std::to_string(kMaxSourceBytes) + " bytes",
                      std::to_string(size) + " bytes");
  }
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  // An empty file sets failbit on `text`, which is no failure to read.
  if (!in.is_open() || (!text && size != 0)) {
    return unreadable(path, "a readable file", "no permission or a failing device");
  }
  return SourceFile(path, std::move(text).str());
}

Position find_bad_byte(const SourceFile& source) {
  const std::string_view text = source.text();
  std::size_t offset = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  Position at{1, 1};
  while (offset < text.size()) {
    const std::size_t length = valid_length(text.substr(offset));
    if (length == 0) return at;
    if (text[offset] == '\n') {
      at = {at.line + 1, 1};
    } else {
      ++at.column;
    }
    offset += length;
  }
  return {};
}

std::string printable(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = valid_length(text);
    const bool is_space = text.front() == '\t' || text.front() == '\n' || text.front() == '\r';
    if (is_space) {
      safe += ' ';
    } else if (length == 0) {
      safe += '?';
    } else {
      safe += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return safe;
}

std::size_t count_code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); }));
}

}  // namespace refute
