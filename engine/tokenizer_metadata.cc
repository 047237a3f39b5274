#include "engine/tokenizer_metadata.h"

#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/gguf_names.h"
#include "engine/gguf_values.h"

namespace refute {
namespace {

// The value of `key` as T; empty when the file has no such key.
template <typename T>
Result<std::optional<T>> optional_value(const GgufFile& file, std::string_view key,
                                        std::string_view expected) {
  const GgufValue* const value = file.find_value(key);
  if (value == nullptr) return std::optional<T>();
  if (const T* const held = std::get_if<T>(value)) return std::optional<T>(*held);
  return file.key_error(ErrorKind::kMalformed, key, std::string(expected), gguf_value_kind(*value));
}

Result<std::optional<std::int32_t>> optional_token_id(const GgufFile& file, std::string_view key) {
  if (file.find_value(key) == nullptr) return std::optional<std::int32_t>();
  const Result<std::uint64_t> id = file.required_unsigned(key);
  if (!id) return id.error();
  if (!std::in_range<std::int32_t>(*id)) {
    return file.key_error(ErrorKind::kMalformed, key, "a token id below 2^31", std::to_string(*id));
  }
  return std::optional(static_cast<std::int32_t>(*id));
}

// Stored as int32 by most writers, as uint32 by some.
Result<std::vector<std::int32_t>> token_types(const GgufFile& file) {
  const GgufValue* const value = file.find_value(gguf_keys::kTokenTypes);
  if (value == nullptr) return std::vector<std::int32_t>();
  std::vector<std::int32_t> types;
  const auto append = [&](const auto& stored) {
    for (const auto type : stored) {
      // Any number that is no type is left for Tokenizer::create to refuse.
      types.push_back(std::in_range<std::int32_t>(type) ? static_cast<std::int32_t>(type) : -1);
    }
  };
  if (const auto* const stored = std::get_if<std::vector<std::int64_t>>(value)) {
    append(*stored);
  } else if (const auto* const unsigned_stored = std::get_if<std::vector<std::uint64_t>>(value)) {
    append(*unsigned_stored);
  } else {
    return file.key_error(ErrorKind::kMalformed, gguf_keys::kTokenTypes, "an array of integers",
                          gguf_value_kind(*value));
  }
  return types;
}

}  // namespace

Result<std::optional<TokenizerData>> read_tokenizer_data(const GgufFile& file) {
  using Strings = std::vector<std::string>;
  if (file.find_value(gguf_keys::kTokenizerModel) == nullptr) {
    return std::optional<TokenizerData>();
  }
  TokenizerData data;
  Result<std::string> model = file.required_string(gguf_keys::kTokenizerModel);
  if (!model) return model.error();
  data.model = std::move(*model);
  auto pre = optional_value<std::string>(file, gguf_keys::kTokenizerPre, "a string");
  if (!pre) return pre.error();
  data.pre = std::move(*pre).value_or("");
  auto tokens = optional_value<Strings>(file, gguf_keys::kTokens, "an array of strings");
  if (!tokens) return tokens.error();
  if (!tokens->has_value()) {
    return file.key_error(ErrorKind::kMissingKey, gguf_keys::kTokens, "an array of strings",
                          "no such key");
  }
  data.tokens = std::move(**tokens);
  Result<std::vector<std::int32_t>> types = token_types(file);
  if (!types) return types.error();
  data.token_types = std::move(*types);
  auto merges = optional_value<Strings>(file, gguf_keys::kMerges, "an array of strings");
  if (!merges) return merges.error();
  data.merges = std::move(*merges).value_or(Strings());

  struct TokenId {
    std::string_view key;
    std::optional<std::int32_t> TokenizerData::*member;
  };
  for (const TokenId& id : {TokenId{gguf_keys::kBosTokenId, &TokenizerData::bos},
                            TokenId{gguf_keys::kEosTokenId, &TokenizerData::eos},
                            TokenId{gguf_keys::kPaddingTokenId, &TokenizerData::padding}}) {
    const auto value = optional_token_id(file, id.key);
    if (!value) return value.error();
    data.*id.member = *value;
  }
  const auto add_bos = optional_value<bool>(file, gguf_keys::kAddBosToken, "a bool");
  if (!add_bos) return add_bos.error();
  data.add_bos = add_bos->value_or(false);
  return std::optional(std::move(data));
}

}  // namespace refute
