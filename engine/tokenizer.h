// The byte-level BPE tokenizer of a model file: its own vocabulary and merges.
//
//   Result<Tokenizer> tokenizer = Tokenizer::create(std::move(data));
//   Result<std::vector<std::int32_t>> ids = tokenizer->encode("In the beginning", false);
//   Result<std::string> text = tokenizer->decode(*ids);
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/byte_pair_merges.h"
#include "engine/pretokenizer.h"
#include "kernels/result.h"

namespace refute {

// What a model file says of its tokenizer, unchecked. An ordinary token is written in GPT-2's
// alphabet, where every byte is one printable character (a space is U+0120); the texts of control
// and user-defined tokens are literal.
struct TokenizerData {
  std::string model;                      // Only "gpt2" is supported.
  std::string pre;                        // See parse_pretokenizer.
  std::vector<std::string> tokens;        // [vocab_size], a token's id is its index.
  std::vector<std::int32_t> token_types;  // [vocab_size], 0 undefined, 1 normal, 2 unknown,
                                          // 3 control, 4 user defined, 5 unused, 6 byte ("<0x0A>");
                                          // empty: all are normal.
  std::vector<std::string> merges;        // "left right", most urgent first.
  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;
  std::optional<std::int32_t> padding;
  bool add_bos = false;  // Prompts start with bos.
};

class Tokenizer {
 public:
  // kUnsupported: the model or pre-tokenizer is not implemented. kMalformed: no tokens, another
  // number of types, a type outside 0..6, or a merge that is not two texts with one space between;
  // the token or merge is named by its index. kInvalidToken: bos, eos or padding outside the
  // vocabulary. kMissingKey: add_bos without bos.
  //
  // Of tokens with equal text, text encodes to the one with the lowest id; all of them decode. A
  // merge is ignored when one of its sides or its result is not in the vocabulary: such a merge
  // could only lead to text that has no id. Bytes without a token are no error here, but in encode.
  static Result<Tokenizer> create(TokenizerData data);

  // The ids of `text`, which may be any bytes. User-defined tokens are recognised wherever their
  // text occurs, the longest first; control and unknown tokens likewise, but only if
  // `parse_special`, and else never produced. kInvalidToken names a byte for which the vocabulary
  // has no token, and its offset in `text`.
  Result<std::vector<std::int32_t>> encode(std::string_view text, bool parse_special) const;

  // encode, preceded by bos where the model file asks for it.
  Result<std::vector<std::int32_t>> encode_prompt(std::string_view text, bool parse_special) const;

  // The bytes of `ids`, not necessarily valid UTF-8. Control and unknown tokens give nothing, or
  // their literal text if `render_control`. A vocabulary with a token for every byte makes
  // decode(encode(text, false)) == text for every `text`. kInvalidToken for an id outside the
  // vocabulary.
  Result<std::string> decode(std::span<const std::int32_t> ids, bool render_control = false) const;

  std::size_t vocab_size() const { return tokens_.size(); }
  std::optional<std::int32_t> bos() const { return bos_; }
  std::optional<std::int32_t> eos() const { return eos_; }
  std::optional<std::int32_t> padding() const { return padding_; }

 private:
  enum class Kind { kOrdinary, kUserDefined, kControl };
  struct Token {
    std::string bytes;  // What it decodes to.
    Kind kind;
  };

  Tokenizer() = default;
  void index_literals();
  std::optional<std::int32_t> literal_at(std::string_view text, std::size_t position,
                                         bool parse_special) const;
  Result<void> append_ids(std::string_view text, std::size_t begin, std::size_t end,
                          std::vector<std::int32_t>& ids) const;

  Pretokenizer pretokenizer_ = Pretokenizer::kGpt2;
  std::vector<Token> tokens_;
  std::array<std::optional<std::int32_t>, 256> byte_ids_;
  MergeTable merges_;
  // Control and user-defined tokens by their first byte, the longest first.
  std::array<std::vector<std::int32_t>, 256> literals_;
  std::optional<std::int32_t> bos_;
  std::optional<std::int32_t> eos_;
  std::optional<std::int32_t> padding_;
  bool add_bos_ = false;
};

// Decodes one id at a time for display: a character whose bytes are spread over several tokens is
// held back until it is complete. The tokenizer must outlive it.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(const Tokenizer& tokenizer, bool render_control = false)
      : tokenizer_(tokenizer), render_control_(render_control) {}

  // The bytes that `id` makes ready. Bytes that can no longer become valid UTF-8 are passed on as
  // they are. kInvalidToken as in Tokenizer::decode.
  Result<std::string> push(std::int32_t id);

  // The bytes still held back, at most 3; the decoder then starts anew.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool render_control_;
  std::string held_;
};

}  // namespace refute
