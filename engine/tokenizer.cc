#include "engine/tokenizer.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <unordered_map>
#include <utility>

#include "engine/utf8.h"

namespace refute {
namespace {

constexpr std::size_t kNumBytes = 256;

// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others, in ascending order,
// are U+0100, U+0101, and so on.
struct ByteAlphabet {
  std::array<char32_t, kNumBytes> character_of_byte;
  std::unordered_map<char32_t, char> byte_of_character;
};

ByteAlphabet make_byte_alphabet() {
  ByteAlphabet alphabet;
  char32_t next_character = 0x100;
  for (std::size_t byte = 0; byte < kNumBytes; ++byte) {
    const bool stands_for_itself =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE);
    const char32_t character = stands_for_itself ? static_cast<char32_t>(byte) : next_character++;
    alphabet.character_of_byte[byte] = character;
    alphabet.byte_of_character.emplace(character,
                                       static_cast<char>(static_cast<unsigned char>(byte)));
  }
  return alphabet;
}

// The bytes that an ordinary token's text stands for; what is outside the alphabet is kept.
std::string bytes_of_text(const ByteAlphabet& alphabet, std::string_view text) {
  std::string bytes;
  for (std::size_t position = 0; position < text.size();) {
    const CodePoint code_point = decode_code_point(text, position);
    const auto found = alphabet.byte_of_character.find(code_point.value);
    if (found != alphabet.byte_of_character.end()) {
      bytes.push_back(found->second);
    } else {
      bytes.append(text.substr(position, code_point.length));
    }
    position += code_point.length;
  }
  return bytes;
}

// The byte of a token of type byte, "<0x0A>".
std::optional<unsigned char> byte_token_value(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
  unsigned char value = 0;
  const char* const digits_end = text.data() + 5;
  const auto [stop, error] = std::from_chars(text.data() + 3, digits_end, value, 16);
  if (error != std::errc() || stop != digits_end) return std::nullopt;
  return value;
}

std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

std::string byte_name(unsigned char byte) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string name = "byte 0x";
  name += kDigits[byte >> 4];
  name += kDigits[byte & 15];
  if (byte > 0x20 && byte < 0x7F) name += std::string(" '") + static_cast<char>(byte) + "'";
  return name;
}

Result<void> check_id(const char* name, std::optional<std::int32_t> id, std::size_t vocab_size) {
  if (!id || (*id >= 0 && static_cast<std::size_t>(*id) < vocab_size)) return {};
  return Error{ErrorKind::kInvalidToken, std::string("tokenizer ") + name,
               "an id in [0, " + std::to_string(vocab_size) + ")", std::to_string(*id)};
}

Result<void> check_data(const TokenizerData& data) {
  if (data.model != "gpt2") {
    return Error{ErrorKind::kUnsupported, "tokenizer model", "\"gpt2\"", quoted(data.model)};
  }
  const std::size_t vocab_size = data.tokens.size();
  if (vocab_size == 0 || vocab_size > std::numeric_limits<std::int32_t>::max()) {
    return Error{ErrorKind::kMalformed, "tokenizer tokens", "between 1 and 2^31 - 1 tokens",
                 std::to_string(vocab_size)};
  }
  if (!data.token_types.empty() && data.token_types.size() != vocab_size) {
    return Error{ErrorKind::kMalformed, "tokenizer token types",
                 std::to_string(vocab_size) + ", one for each token",
                 std::to_string(data.token_types.size())};
  }
  for (std::size_t id = 0; id < data.token_types.size(); ++id) {
    if (data.token_types[id] < 0 || data.token_types[id] > 6) {
      return Error{ErrorKind::kMalformed, "tokenizer type of token " + std::to_string(id), "0 to 6",
                   std::to_string(data.token_types[id])};
    }
  }
  for (const auto& [name, id] : {std::pair("bos", data.bos), std::pair("eos", data.eos),
                                 std::pair("padding", data.padding)}) {
    if (Result<void> checked = check_id(name, id, vocab_size); !checked) return checked;
  }
  if (data.add_bos && !data.bos) {
    return Error{ErrorKind::kMissingKey, "tokenizer bos", "an id, because prompts start with it",
                 "none"};
  }
  return {};
}

}  // namespace

Result<Tokenizer> Tokenizer::create(TokenizerData data) {
  if (const Result<void> checked = check_data(data); !checked) return checked.error();
  const std::optional<Pretokenizer> pretokenizer = parse_pretokenizer(data.pre);
  if (!pretokenizer) {
    return Error{ErrorKind::kUnsupported, "tokenizer pre-tokenizer",
                 "\"qwen2\", \"gpt2\", \"gpt-2\" or \"default\"", quoted(data.pre)};
  }
  Tokenizer tokenizer;
  tokenizer.pretokenizer_ = *pretokenizer;
  tokenizer.bos_ = data.bos;
  tokenizer.eos_ = data.eos;
  tokenizer.padding_ = data.padding;
  tokenizer.add_bos_ = data.add_bos;

  const ByteAlphabet alphabet = make_byte_alphabet();
  std::unordered_map<std::string_view, std::int32_t> id_of_text;  // Borrows from data.tokens.
  for (std::size_t index = 0; index < data.tokens.size(); ++index) {
    const std::string& text = data.tokens[index];
    const auto id = static_cast<std::int32_t>(index);
    const std::int32_t type = data.token_types.empty() ? 1 : data.token_types[index];
    if (type == 2 || type == 3 || type == 4) {
      tokenizer.tokens_.push_back({text, type == 4 ? Kind::kUserDefined : Kind::kControl});
      continue;
    }
    const std::optional<unsigned char> byte = type == 6 ? byte_token_value(text) : std::nullopt;
    tokenizer.tokens_.push_back(
        {byte ? std::string(1, static_cast<char>(*byte)) : bytes_of_text(alphabet, text),
         Kind::kOrdinary});
    if (byte && !tokenizer.byte_ids_[*byte]) tokenizer.byte_ids_[*byte] = id;
    id_of_text.try_emplace(text, id);
  }

  tokenizer.index_literals();

  const auto find_id = [&id_of_text](const std::string& text) -> std::optional<std::int32_t> {
    const auto found = id_of_text.find(text);
    return found == id_of_text.end() ? std::nullopt : std::optional(found->second);
  };
  // Byte tokens come second, because merges are written in the alphabet.
  for (std::size_t byte = 0; byte < kNumBytes; ++byte) {
    std::string text;
    append_utf8(alphabet.character_of_byte[byte], text);
    if (const std::optional<std::int32_t> id = find_id(text)) tokenizer.byte_ids_[byte] = id;
  }
  for (std::size_t rank = 0; rank < data.merges.size(); ++rank) {
    const std::string& merge = data.merges[rank];
    const std::size_t space = merge.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string::npos) {
      return Error{ErrorKind::kMalformed, "tokenizer merge " + std::to_string(rank),
                   "two texts with one space between", quoted(merge)};
    }
    const std::string left = merge.substr(0, space);
    const std::string right = merge.substr(space + 1);
    const std::optional<std::int32_t> left_id = find_id(left);
    const std::optional<std::int32_t> right_id = find_id(right);
    const std::optional<std::int32_t> merged_id = find_id(left + right);
    if (left_id && right_id && merged_id) {
      tokenizer.merges_.insert(*left_id, *right_id, rank, *merged_id);
    }
  }
  return tokenizer;
}

void Tokenizer::index_literals() {
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    const Token& token = tokens_[id];
    // An empty text would match everywhere.
    if (token.kind == Kind::kOrdinary || token.bytes.empty()) continue;
    literals_[static_cast<unsigned char>(token.bytes.front())].push_back(
        static_cast<std::int32_t>(id));
  }
  for (std::vector<std::int32_t>& bucket : literals_) {
    // Stable, so that the lowest id wins among equal texts.
    std::stable_sort(bucket.begin(), bucket.end(), [this](std::int32_t left, std::int32_t right) {
      return tokens_[static_cast<std::size_t>(left)].bytes.size() >
             tokens_[static_cast<std::size_t>(right)].bytes.size();
    });
  }
}

std::optional<std::int32_t> Tokenizer::literal_at(std::string_view text, std::size_t position,
                                                  bool parse_special) const {
  const std::string_view rest = text.substr(position);
  for (const std::int32_t id : literals_[static_cast<unsigned char>(rest.front())]) {
    const Token& token = tokens_[static_cast<std::size_t>(id)];
    if (token.kind == Kind::kControl && !parse_special) continue;
    if (rest.starts_with(token.bytes)) return id;
  }
  return std::nullopt;
}

Result<void> Tokenizer::append_ids(std::string_view text, std::size_t begin, std::size_t end,
                                   std::vector<std::int32_t>& ids) const {
  for (const std::string_view word : split_words(pretokenizer_, text.substr(begin, end - begin))) {
    std::vector<std::int32_t> word_ids;
    for (const char character : word) {
      const auto byte = static_cast<unsigned char>(character);
      if (!byte_ids_[byte]) {
        return Error{ErrorKind::kInvalidToken, "text at byte " + std::to_string(begin),
                     "a byte that the vocabulary has a token for", byte_name(byte)};
      }
      word_ids.push_back(*byte_ids_[byte]);
      ++begin;
    }
    merges_.apply(word_ids);
    ids.insert(ids.end(), word_ids.begin(), word_ids.end());
  }
  return {};
}

Result<std::vector<std::int32_t>> Tokenizer::encode(std::string_view text,
                                                    bool parse_special) const {
  std::vector<std::int32_t> ids;
  std::size_t begin = 0;  // Start of the text since the last literal token.
  for (std::size_t position = 0; position < text.size();) {
    const std::optional<std::int32_t> literal = literal_at(text, position, parse_special);
    if (!literal) {
      ++position;
      continue;
    }
    if (Result<void> added = append_ids(text, begin, position, ids); !added) return added.error();
    ids.push_back(*literal);
    position += tokens_[static_cast<std::size_t>(*literal)].bytes.size();
    begin = position;
  }
  if (Result<void> added = append_ids(text, begin, text.size(), ids); !added) return added.error();
  return ids;
}

Result<std::vector<std::int32_t>> Tokenizer::encode_prompt(std::string_view text,
                                                           bool parse_special) const {
  Result<std::vector<std::int32_t>> ids = encode(text, parse_special);
  if (ids && add_bos_) ids->insert(ids->begin(), *bos_);
  return ids;
}

Result<std::string> Tokenizer::decode(std::span<const std::int32_t> ids,
                                      bool render_control) const {
  std::string bytes;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= tokens_.size()) {
      return Error{ErrorKind::kInvalidToken, "decode ids[" + std::to_string(i) + "]",
                   "an id in [0, " + std::to_string(tokens_.size()) + ")", std::to_string(ids[i])};
    }
    const Token& token = tokens_[static_cast<std::size_t>(ids[i])];
    if (token.kind != Kind::kControl || render_control) bytes += token.bytes;
  }
  return bytes;
}

Result<std::string> StreamingDecoder::push(std::int32_t id) {
  Result<std::string> bytes = tokenizer_.decode(std::span(&id, 1), render_control_);
  if (!bytes) return bytes;
  held_ += *bytes;
  const std::size_t ready = held_.size() - incomplete_suffix_length(held_);
  std::string text = held_.substr(0, ready);
  held_.erase(0, ready);
  return text;
}

std::string StreamingDecoder::finish() { return std::exchange(held_, std::string()); }

}  // namespace refute
