// Pre-tokenization: cuts a text into the words that byte pair encoding never merges across.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace refute {

// Each cuts as its regular expression does, matched repeatedly from the left.
enum class Pretokenizer {
  // 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  kGpt2,
  // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*
  // |\s*[\r\n]+|\s+(?!\S)|\s+
  kQwen2,
};

// The pre-tokenizer that a model file calls "gpt2", "gpt-2" or "default" (all kGpt2) or "qwen2".
std::optional<Pretokenizer> parse_pretokenizer(std::string_view name);

// The words of `text`, in order, none empty; together they are `text`, into which they point. A
// byte of invalid UTF-8 counts as a character that is no letter, number or space. No Unicode
// normalization. Time is linear in the length of the text.
std::vector<std::string_view> split_words(Pretokenizer pretokenizer, std::string_view text);

}  // namespace refute
