// The regular expressions as scanners. Each alternative is a function from a position to the end of
// its match, or to the position itself when it does not match; the alternatives are tried in the
// order of the expression. `\s+(?!\S)` needs no backtracking loop: a run of spaces matches whole at
// the end of the text, and without its last space before anything else.
#include "engine/pretokenizer.h"

#include <array>
#include <cstddef>

#include "engine/unicode_categories.h"
#include "engine/utf8.h"
#include "kernels/check.h"

namespace refute {
namespace {

struct Character {
  char32_t value;
  std::size_t length;  // Bytes; 0 past the end of the text.
  CharacterClass character_class;

  bool exists() const { return length > 0; }
  bool is(CharacterClass expected) const { return exists() && character_class == expected; }
  bool is_newline() const { return exists() && (value == '\r' || value == '\n'); }
};

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  std::size_t gpt2_end(std::size_t begin) const {
    std::size_t end = contraction_end(begin, false);
    if (end == begin) end = run_end(begin, CharacterClass::kLetter);
    if (end == begin) end = run_end(begin, CharacterClass::kNumber);
    if (end == begin) end = run_end(begin, CharacterClass::kOther);
    if (end == begin) end = spaces_end(begin);
    return end;
  }

  std::size_t qwen2_end(std::size_t begin) const {
    std::size_t end = contraction_end(begin, true);
    if (end == begin) end = prefixed_letters_end(begin);
    if (end == begin) end = single_number_end(begin);
    if (end == begin) end = symbols_with_newlines_end(begin);
    if (end == begin) end = newlines_end(begin);
    if (end == begin) end = spaces_end(begin);
    return end;
  }

 private:
  Character at(std::size_t position) const {
    if (position >= text_.size()) return {0, 0, CharacterClass::kOther};
    const CodePoint code_point = decode_code_point(text_, position);
    return {code_point.value, code_point.length, character_class(code_point.value)};
  }

  // [class]*
  std::size_t skip(std::size_t position, CharacterClass skipped) const {
    for (Character next = at(position); next.is(skipped); next = at(position)) {
      position += next.length;
    }
    return position;
  }

  // 's|'t|'re|'ve|'m|'ll|'d. Ignoring case, s also matches U+017F, the long s, which folds to it;
  // no other letter of the suffixes has a third form.
  std::size_t contraction_end(std::size_t begin, bool ignore_case) const {
    static constexpr std::array<std::string_view, 7> kSuffixes = {"s", "t",  "re", "ve",
                                                                  "m", "ll", "d"};
    if (at(begin).value != '\'') return begin;
    for (const std::string_view suffix : kSuffixes) {
      std::size_t end = begin + 1;
      for (const char expected : suffix) {
        const Character found = at(end);
        char32_t folded = found.value;
        if (ignore_case && folded >= 'A' && folded <= 'Z') folded += 'a' - 'A';
        if (ignore_case && folded == 0x17F) folded = 's';
        if (!found.exists() || folded != static_cast<unsigned char>(expected)) {
          end = begin;
          break;
        }
        end += found.length;
      }
      if (end != begin) return end;
    }
    return begin;
  }

  // ` ?[class]+`
  std::size_t run_end(std::size_t begin, CharacterClass wanted) const {
    const std::size_t first = at(begin).value == ' ' ? begin + 1 : begin;
    return at(first).is(wanted) ? skip(first, wanted) : begin;
  }

  // [^\r\n\p{L}\p{N}]?\p{L}+
  std::size_t prefixed_letters_end(std::size_t begin) const {
    const Character first = at(begin);
    if (first.is_newline() || first.is(CharacterClass::kNumber)) return begin;
    const std::size_t letters = first.is(CharacterClass::kLetter) ? begin : begin + first.length;
    return at(letters).is(CharacterClass::kLetter) ? skip(letters, CharacterClass::kLetter) : begin;
  }

  // \p{N}
  std::size_t single_number_end(std::size_t begin) const {
    const Character first = at(begin);
    return first.is(CharacterClass::kNumber) ? begin + first.length : begin;
  }

  // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
  std::size_t symbols_with_newlines_end(std::size_t begin) const {
    std::size_t end = run_end(begin, CharacterClass::kOther);
    if (end == begin) return begin;
    while (at(end).is_newline()) ++end;
    return end;
  }

  // \s*[\r\n]+: up to the last newline of the run of spaces.
  std::size_t newlines_end(std::size_t begin) const {
    std::size_t end = begin;
    std::size_t position = begin;
    for (Character next = at(position); next.is(CharacterClass::kSpace); next = at(position)) {
      position += next.length;
      if (next.is_newline()) end = position;
    }
    return end;
  }

  // \s+(?!\S)|\s+
  std::size_t spaces_end(std::size_t begin) const {
    std::size_t last = begin;  // Where the last space of the run starts.
    std::size_t end = begin;
    for (Character next = at(end); next.is(CharacterClass::kSpace); next = at(end)) {
      last = end;
      end += next.length;
    }
    return end == text_.size() || last == begin ? end : last;
  }

  std::string_view text_;
};

}  // namespace

std::optional<Pretokenizer> parse_pretokenizer(std::string_view name) {
  if (name == "gpt2" || name == "gpt-2" || name == "default") return Pretokenizer::kGpt2;
  if (name == "qwen2") return Pretokenizer::kQwen2;
  return std::nullopt;
}

std::vector<std::string_view> split_words(Pretokenizer pretokenizer, std::string_view text) {
  const Scanner scanner(text);
  std::vector<std::string_view> words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end =
        pretokenizer == Pretokenizer::kQwen2 ? scanner.qwen2_end(begin) : scanner.gpt2_end(begin);
    CHECK(end > begin);  // Every character matches one alternative.
    words.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

}  // namespace refute
