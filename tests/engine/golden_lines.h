// Reads the tab-separated files under tests/data/tokenizer.
#pragma once

#include <gtest/gtest.h>

#include <charconv>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace refute {

inline std::vector<std::string> split_fields(std::string_view line, char separator) {
  std::vector<std::string> fields;
  std::size_t begin = 0;
  for (std::size_t end = line.find(separator); end != std::string_view::npos;
       end = line.find(separator, begin)) {
    fields.emplace_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  fields.emplace_back(line.substr(begin));
  return fields;
}

// The fields of every line that is not a comment (# in front).
inline std::vector<std::vector<std::string>> read_golden_lines(const std::string& name) {
  std::ifstream file(std::string(REFUTE_TEST_DATA) + "/tokenizer/" + name);
  EXPECT_TRUE(file.is_open()) << name;
  std::vector<std::vector<std::string>> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with('#')) lines.push_back(split_fields(line, '\t'));
  }
  return lines;
}

// Reverses \\, \n, \r, \t and \xHH.
inline std::string unescape(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes += text[i];
      continue;
    }
    const char kind = text.at(++i);
    if (kind == 'x') {
      unsigned char byte = 0;
      std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16);
      bytes += static_cast<char>(byte);
      i += 2;
    } else {
      bytes += kind == 'n' ? '\n' : kind == 'r' ? '\r' : kind == 't' ? '\t' : kind;
    }
  }
  return bytes;
}

inline std::vector<std::int32_t> parse_numbers(const std::string& text) {
  std::vector<std::int32_t> numbers;
  if (text.empty()) return numbers;
  for (const std::string& field : split_fields(text, ' ')) numbers.push_back(std::stoi(field));
  return numbers;
}

// Deterministic bytes for tests: the high byte of a 64-bit linear congruential generator.
class TestBytes {
 public:
  explicit TestBytes(std::uint64_t seed) : state_(seed) {}
  char next() {
    state_ = state_ * 6364136223846793005 + 1442695040888963407;
    return static_cast<char>(static_cast<unsigned char>(state_ >> 56));
  }

 private:
  std::uint64_t state_;
};

}  // namespace refute
