#include "engine/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/utf8.h"
#include "tests/engine/golden_lines.h"

namespace refute {
namespace {

using Ids = std::vector<std::int32_t>;

// GPT-2's character for a byte, from the rule as GPT-2's own source writes it.
std::string byte_character(int byte) {
  int shifted = 0;
  for (int other = 0; other <= byte; ++other) {
    const bool printable = (other >= '!' && other <= '~') || (other >= 0xA1 && other <= 0xAC) ||
                           (other >= 0xAE && other <= 0xFF);
    if (other == byte && printable) shifted = byte - 256;
    if (other < byte && !printable) ++shifted;
  }
  std::string text;
  append_utf8(static_cast<char32_t>(256 + shifted), text);
  return text;
}

// Ids 0 to 255 are the bytes.
TokenizerData byte_vocabulary() {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = "qwen2";
  for (int byte = 0; byte < 256; ++byte) data.tokens.push_back(byte_character(byte));
  data.token_types.assign(256, 1);
  return data;
}

std::int32_t add_token(TokenizerData& data, std::string text, std::int32_t type) {
  data.tokens.push_back(std::move(text));
  data.token_types.push_back(type);
  return static_cast<std::int32_t>(data.tokens.size()) - 1;
}

// A vocabulary that has no token for any single byte.
TokenizerData synthetic_vocabulary() {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = "qwen2";
  for (int id = 0; id < 512; ++id) data.tokens.push_back("<" + std::to_string(id) + ">");
  data.token_types.assign(512, 1);
  data.merges = {"< 0"};
  data.eos = 0;
  data.padding = 0;
  return data;
}

Tokenizer created(TokenizerData data) {
  Result<Tokenizer> tokenizer = Tokenizer::create(std::move(data));
  EXPECT_TRUE(tokenizer) << tokenizer.error().message();
  return *std::move(tokenizer);
}

Ids encoded(const Tokenizer& tokenizer, std::string_view text, bool parse_special = false) {
  const Result<Ids> ids = tokenizer.encode(text, parse_special);
  EXPECT_TRUE(ids) << ids.error().message();
  return ids ? *ids : Ids();
}

std::string decoded(const Tokenizer& tokenizer, const Ids& ids, bool render_control = false) {
  const Result<std::string> text = tokenizer.decode(ids, render_control);
  EXPECT_TRUE(text) << text.error().message();
  return text ? *text : std::string();
}

std::string create_error(TokenizerData data) {
  const Result<Tokenizer> tokenizer = Tokenizer::create(std::move(data));
  EXPECT_FALSE(tokenizer);
  return tokenizer ? std::string() : tokenizer.error().message();
}

struct GoldenCase {
  std::string pre;
  std::string text;
  Ids ids;
};

struct Golden {
  TokenizerData data;
  std::vector<GoldenCase> cases;
};

Golden read_golden() {
  Golden golden;
  golden.data.model = "gpt2";
  for (const std::vector<std::string>& line : read_golden_lines("bpe_512.tsv")) {
    if (line[0] == "token") add_token(golden.data, line.at(2), std::stoi(line.at(1)));
    if (line[0] == "merge") golden.data.merges.push_back(line.at(1));
    if (line[0] == "case") {
      golden.cases.push_back({line.at(1), unescape(line.at(2)), parse_numbers(line.at(3))});
    }
  }
  return golden;
}

TEST(Tokenizer, EncodesAsTheReferenceImplementation) {
  Golden golden = read_golden();
  ASSERT_EQ(golden.data.tokens.size(), 512U);
  ASSERT_GT(golden.cases.size(), 200U);
  for (const char* pre : {"qwen2", "gpt2"}) {
    golden.data.pre = pre;
    const Tokenizer tokenizer = created(golden.data);
    for (const GoldenCase& golden_case : golden.cases) {
      if (golden_case.pre != pre) continue;
      EXPECT_EQ(encoded(tokenizer, golden_case.text, true), golden_case.ids)
          << pre << ": " << golden_case.text;
      EXPECT_EQ(decoded(tokenizer, golden_case.ids, true), golden_case.text) << pre;
    }
  }
}

TEST(Tokenizer, RoundTripsAnyBytes) {
  Golden golden = read_golden();
  golden.data.pre = "qwen2";
  const Tokenizer trained = created(golden.data);
  const Tokenizer bytes_only = created(byte_vocabulary());
  TestBytes random(3);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < round; ++i) text += random.next();
    ASSERT_EQ(decoded(trained, encoded(trained, text)), text);
    ASSERT_EQ(decoded(bytes_only, encoded(bytes_only, text)), text);
  }
}

TEST(Tokenizer, MapsBytesToTheirOwnTokens) {
  const Tokenizer tokenizer = created(byte_vocabulary());
  std::string text;
  Ids ids;
  for (int byte = 0; byte < 256; ++byte) {
    text += static_cast<char>(static_cast<unsigned char>(byte));
    ids.push_back(byte);
  }
  EXPECT_EQ(encoded(tokenizer, text), ids);
  EXPECT_EQ(decoded(tokenizer, ids), text);
}

TEST(Tokenizer, IgnoresMergesOutsideTheVocabulary) {
  TokenizerData data = byte_vocabulary();
  const std::int32_t end_of_text = add_token(data, "<|endoftext|>", 3);
  const std::int32_t there = add_token(data, "th", 1);
  data.merges = {"\u0120 \u0120", "zz y", "t h"};
  const Tokenizer tokenizer = created(std::move(data));
  EXPECT_EQ(encoded(tokenizer, "  th"), Ids({' ', ' ', there}));
  EXPECT_EQ(tokenizer.vocab_size(), 258U);
  EXPECT_EQ(encoded(tokenizer, "<|endoftext|>", true), Ids({end_of_text}));
}

TEST(Tokenizer, NamesTheByteThatHasNoToken) {
  const Tokenizer tokenizer = created(synthetic_vocabulary());
  const Result<Ids> letter = tokenizer.encode("hi", false);
  ASSERT_FALSE(letter);
  EXPECT_EQ(letter.error().message(),
            "InvalidToken: text at byte 0: expected a byte that the vocabulary has a token for, "
            "found byte 0x68 'h'");

  TokenizerData data = byte_vocabulary();
  data.tokens[0xA9] = "absent";
  add_token(data, "<eos>", 3);
  const Tokenizer without_one = created(std::move(data));
  const Result<Ids> accent = without_one.encode("<eos>caf\u00E9", true);
  ASSERT_FALSE(accent);
  EXPECT_EQ(accent.error().kind, ErrorKind::kInvalidToken);
  EXPECT_EQ(accent.error().where, "text at byte 9");
  EXPECT_EQ(accent.error().found, "byte 0xa9");
}

TEST(Tokenizer, DecodesSyntheticVocabularies) {
  const Tokenizer tokenizer = created(synthetic_vocabulary());
  EXPECT_EQ(decoded(tokenizer, {17, 0, 511}), "<17><0><511>");
  EXPECT_EQ(encoded(tokenizer, ""), Ids());
  EXPECT_EQ(tokenizer.eos(), 0);
  EXPECT_EQ(tokenizer.padding(), 0);
  EXPECT_EQ(tokenizer.bos(), std::nullopt);
}

TEST(Tokenizer, RecognisesControlTokensOnlyWhenAsked) {
  TokenizerData data = byte_vocabulary();
  const std::int32_t end = add_token(data, "<|end|>", 3);
  const std::int32_t end_twice = add_token(data, "<|end|><|end|>", 3);
  const std::int32_t unknown = add_token(data, "<unk>", 2);
  add_token(data, "", 3);
  const Tokenizer tokenizer = created(std::move(data));
  EXPECT_EQ(encoded(tokenizer, "a<|end|>b", true), Ids({'a', end, 'b'}));
  EXPECT_EQ(encoded(tokenizer, "<unk>", true), Ids({unknown}));
  EXPECT_EQ(encoded(tokenizer, "<unk>", false), Ids({'<', 'u', 'n', 'k', '>'}));
  EXPECT_EQ(encoded(tokenizer, "<|end|>", false), Ids({'<', '|', 'e', 'n', 'd', '|', '>'}));
  EXPECT_EQ(encoded(tokenizer, "<|end|><|end|><|end|>", true), Ids({end_twice, end}));
  EXPECT_EQ(encoded(tokenizer, "<<|end|", true), Ids({'<', '<', '|', 'e', 'n', 'd', '|'}));
  EXPECT_EQ(decoded(tokenizer, {'a', end, unknown, 'b'}), "ab");
  EXPECT_EQ(decoded(tokenizer, {'a', end, 'b'}, true), "a<|end|>b");
}

TEST(Tokenizer, RecognisesUserDefinedTokensAlways) {
  TokenizerData data = byte_vocabulary();
  const std::int32_t think = add_token(data, "<think>", 4);
  const Tokenizer tokenizer = created(std::move(data));
  EXPECT_EQ(encoded(tokenizer, "a<think>", false), Ids({'a', think}));
  EXPECT_EQ(decoded(tokenizer, {think}), "<think>");
}

TEST(Tokenizer, MergesNeverProduceControlTokens) {
  TokenizerData data = byte_vocabulary();
  const std::int32_t control = add_token(data, "ab", 3);
  data.merges = {"a b"};
  const Tokenizer tokenizer = created(std::move(data));
  EXPECT_EQ(encoded(tokenizer, "ab", false), Ids({'a', 'b'}));
  EXPECT_EQ(encoded(tokenizer, "ab", true), Ids({control}));
}

TEST(Tokenizer, LowestIdEncodesAmongEqualTexts) {
  TokenizerData data = byte_vocabulary();
  const std::int32_t first = add_token(data, "ab", 1);
  const std::int32_t second = add_token(data, "ab", 1);
  const std::int32_t first_control = add_token(data, "<e>", 3);
  add_token(data, "<e>", 3);
  data.merges = {"a b"};
  const Tokenizer tokenizer = created(std::move(data));
  EXPECT_EQ(encoded(tokenizer, "ab<e>", true), Ids({first, first_control}));
  EXPECT_EQ(decoded(tokenizer, {second}), "ab");
}

TEST(Tokenizer, ByteTokensStandForTheirByte) {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = "gpt2";
  data.tokens = {"a", "<0x0A>", "<0x61>", "<0xZZ>"};
  data.token_types = {1, 6, 6, 6};
  const Tokenizer tokenizer = created(std::move(data));
  EXPECT_EQ(encoded(tokenizer, "a\na"), Ids({0, 1, 0}));
  EXPECT_EQ(decoded(tokenizer, {1, 2, 3}), "\na<0xZZ>");
}

TEST(Tokenizer, WithoutTypesAllTokensAreNormal) {
  TokenizerData data = byte_vocabulary();
  data.token_types.clear();
  EXPECT_EQ(encoded(created(std::move(data)), "<a>", true), Ids({'<', 'a', '>'}));
}

TEST(Tokenizer, PromptsStartWithBosWhereTheFileAsksForIt) {
  TokenizerData data = byte_vocabulary();
  data.bos = add_token(data, "<s>", 3);
  const Tokenizer without = created(data);
  data.add_bos = true;
  const Tokenizer with = created(std::move(data));
  EXPECT_EQ(*without.encode_prompt("a", false), Ids({'a'}));
  EXPECT_EQ(*with.encode_prompt("a", false), Ids({256, 'a'}));
  EXPECT_EQ(*with.encode("a", false), Ids({'a'}));
}

TEST(Tokenizer, RejectsBadDataNamingIt) {
  TokenizerData data = byte_vocabulary();
  data.model = "llama";
  EXPECT_EQ(create_error(data), "Unsupported: tokenizer model: expected \"gpt2\", found \"llama\"");

  data = byte_vocabulary();
  data.pre = "llama-bpe";
  EXPECT_EQ(create_error(data),
            "Unsupported: tokenizer pre-tokenizer: expected \"qwen2\", \"gpt2\", \"gpt-2\" or "
            "\"default\", found \"llama-bpe\"");

  data = byte_vocabulary();
  data.token_types.pop_back();
  EXPECT_EQ(create_error(data),
            "Malformed: tokenizer token types: expected 256, one for each token, found 255");

  data = byte_vocabulary();
  data.token_types[9] = 7;
  EXPECT_EQ(create_error(data), "Malformed: tokenizer type of token 9: expected 0 to 6, found 7");

  data = byte_vocabulary();
  data.tokens.clear();
  EXPECT_EQ(create_error(data),
            "Malformed: tokenizer tokens: expected between 1 and 2^31 - 1 tokens, found 0");

  data = byte_vocabulary();
  data.eos = 256;
  EXPECT_EQ(create_error(data),
            "InvalidToken: tokenizer eos: expected an id in [0, 256), found 256");
  data.eos.reset();
  data.padding = -1;
  EXPECT_EQ(create_error(data),
            "InvalidToken: tokenizer padding: expected an id in [0, 256), found -1");

  data = byte_vocabulary();
  data.add_bos = true;
  EXPECT_EQ(create_error(data),
            "MissingKey: tokenizer bos: expected an id, because prompts start with it, found none");

  for (const char* merge : {"", "ab", " b", "a ", "a  b", "a b c"}) {
    data = byte_vocabulary();
    data.merges = {"t h", merge};
    EXPECT_EQ(create_error(data),
              std::string("Malformed: tokenizer merge 1: expected two texts with one space "
                          "between, found \"") +
                  merge + "\"");
  }
}

TEST(Tokenizer, RejectsIdsOutsideTheVocabulary) {
  const Tokenizer tokenizer = created(byte_vocabulary());
  for (const std::int32_t id : {-1, 256, 1 << 30}) {
    const Result<std::string> text = tokenizer.decode(Ids({'a', id}));
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().message(),
              "InvalidToken: decode ids[1]: expected an id in [0, 256), "
              "found " +
                  std::to_string(id));
  }
}

TEST(Tokenizer, LongWordsDoNotTakeQuadraticTime) {
  // 300 KB in one word; quadratic time would take minutes.
  TokenizerData data = byte_vocabulary();
  std::string text = "a";
  std::int32_t longest = 'a';
  for (int doubling = 0; doubling < 10; ++doubling) {
    data.merges.push_back(text + " " + text);
    text += text;
    longest = add_token(data, text, 1);
  }
  const Tokenizer tokenizer = created(std::move(data));
  EXPECT_EQ(encoded(tokenizer, std::string(300 * 1024, 'a')), Ids(300, longest));
}

TEST(StreamingDecoder, HoldsBackIncompleteCharacters) {
  const Tokenizer tokenizer = created(byte_vocabulary());
  StreamingDecoder decoder(tokenizer);
  EXPECT_EQ(*decoder.push('a'), "a");
  EXPECT_EQ(*decoder.push(0xE2), "");
  EXPECT_EQ(*decoder.push(0x82), "");
  EXPECT_EQ(*decoder.push(0xAC), "\u20AC");
  // An interrupted character comes out as soon as it cannot be completed.
  EXPECT_EQ(*decoder.push(0xF0), "");
  EXPECT_EQ(*decoder.push('b'),
            "\xF0"
            "b");
  EXPECT_EQ(*decoder.push(0xFF), "\xFF");
  EXPECT_EQ(*decoder.push(0xC3), "");
  EXPECT_EQ(*decoder.push(0xC3), "\xC3");
  EXPECT_EQ(decoder.finish(), "\xC3");
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_FALSE(decoder.push(256));
}

TEST(StreamingDecoder, GivesWhatDecodeGives) {
  const Tokenizer tokenizer = created(byte_vocabulary());
  TestBytes random(4);
  for (int round = 0; round < 200; ++round) {
    Ids ids;
    for (int i = 0; i < 50; ++i) {
      const auto byte = static_cast<unsigned char>(random.next());
      ids.push_back(round % 2 == 0 ? byte : byte | 0x80);
    }
    StreamingDecoder decoder(tokenizer);
    std::string text;
    for (const std::int32_t id : ids) text += *decoder.push(id);
    const std::string rest = decoder.finish();
    ASSERT_LE(rest.size(), 3U);
    ASSERT_EQ(text + rest, decoded(tokenizer, ids));
  }
}

}  // namespace
}  // namespace refute
