#include "engine/gguf.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

#include "tests/engine/gguf_fixtures.h"

namespace refute {
namespace {

const std::filesystem::path kPacks = std::filesystem::path(REFUTE_TEST_DATA) / "packs";

std::vector<std::byte> counting_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
  return bytes;
}

TEST(Gguf, ReadsBackEveryKindOfValueThatItWrites) {
  const TemporaryFile file("values.gguf");
  const std::uint64_t large = std::uint64_t{1} << 40;
  const std::vector<std::pair<std::string, GgufValue>> values = {
      {"unsigned", std::uint64_t{7}},
      {"unsigned.large", large},
      {"signed", std::int64_t{-7}},
      {"signed.large", std::numeric_limits<std::int64_t>::min()},
      {"float", 0.25},
      {"bool", true},
      {"string", std::string("text\0with a zero byte", 21)},
      {"string.empty", std::string()},
      {"signeds", std::vector<std::int64_t>{-1, 0, 1}},
      {"signeds.large", std::vector<std::int64_t>{-1, std::int64_t{1} << 40}},
      {"unsigneds.large", std::vector<std::uint64_t>{1, large}},
      {"floats", std::vector<double>{0.5, -2.0}},
      {"bools", std::vector<bool>{true, false, true}},
      {"strings", std::vector<std::string>{"a", "", "c"}},
      {"strings.none", std::vector<std::string>{}},
  };
  GgufWriter writer;
  for (const auto& [key, value] : values) writer.add_value(key, value);
  ASSERT_TRUE(writer.begin(file.path()));
  ASSERT_TRUE(writer.finish());

  const Result<GgufFile> read = GgufFile::open(file.path());
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->version(), 3u);
  EXPECT_EQ(read->alignment(), 32u);
  EXPECT_EQ(read->metadata(), values);
  EXPECT_TRUE(read->tensors().empty());
  EXPECT_EQ(read->find_value("absent"), nullptr);
  EXPECT_EQ(*read->find_value("unsigned"), GgufValue(std::uint64_t{7}));
}

TEST(Gguf, ReadsBackTensorsWrittenInPiecesOfAnySize) {
  const std::vector<std::byte> data = counting_bytes(3 * 2 * 144 + 5 * 4 + 2 * 34);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{100}, data.size()}) {
    const TemporaryFile file("tensors.gguf");
    GgufWriter writer;
    writer.add_tensor("matrices", TensorType::kQ4_K, {3, 2, 256});
    writer.add_tensor("vector", TensorType::kF32, {5});
    writer.add_tensor("matrix", TensorType::kQ8_0, {2, 32});
    EXPECT_EQ(writer.tensor_bytes(), data.size());
    ASSERT_TRUE(writer.begin(file.path()));
    for (std::size_t begin = 0; begin < data.size(); begin += piece) {
      const std::size_t size = std::min(piece, data.size() - begin);
      ASSERT_TRUE(writer.append(std::span(data).subspan(begin, size)));
    }
    ASSERT_TRUE(writer.finish());

    const Result<GgufFile> read = GgufFile::open(file.path());
    ASSERT_TRUE(read) << read.error().message();
    ASSERT_EQ(read->tensors().size(), 3u);
    std::vector<std::byte> found;
    for (const GgufTensor& tensor : read->tensors()) {
      found.insert(found.end(), tensor.data.begin(), tensor.data.end());
      EXPECT_EQ((tensor.data.data() - read->bytes().data()) % 32, 0) << tensor.name;
    }
    EXPECT_EQ(found, data);
    const GgufTensor* const matrices = read->find_tensor("matrices");
    ASSERT_NE(matrices, nullptr);
    EXPECT_EQ(matrices->type, TensorType::kQ4_K);
    EXPECT_EQ(matrices->shape, (std::vector<std::size_t>{3, 2, 256}));
    EXPECT_EQ(matrices->shape_text(), "[3, 2, 256]");
    EXPECT_EQ(matrices->num_elements(), 1536u);
    EXPECT_EQ(read->find_tensor("absent"), nullptr);
  }
}

TEST(Gguf, KeepsItsBytesValidWhenMoved) {
  const TemporaryFile path("moved.gguf");
  path.write(RawGguf().bytes());
  Result<GgufFile> opened = GgufFile::open(path.path());
  ASSERT_TRUE(opened) << opened.error().message();
  const GgufFile moved = std::move(*opened);
  EXPECT_EQ(moved.bytes().size(), RawGguf().bytes().size());
  EXPECT_EQ(moved.tensors()[1].data[11], std::byte{0});
}

TEST(Gguf, RefusesMoreOrFewerBytesThanDeclared) {
  const TemporaryFile file("count.gguf");
  GgufWriter writer;
  writer.add_tensor("vector", TensorType::kF32, {5});
  ASSERT_TRUE(writer.begin(file.path()));
  ASSERT_TRUE(writer.append(counting_bytes(19)));
  const Result<void> early = writer.finish();
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().kind, ErrorKind::kInvalidShape);
  EXPECT_NE(early.error().message().find("'vector': expected 20 bytes, found 19"),
            std::string::npos)
      << early.error().message();
  const Result<void> more = writer.append(counting_bytes(2));
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().kind, ErrorKind::kInvalidShape);
}

TEST(Gguf, ReportsPathsThatCannotBeWritten) {
  GgufWriter nowhere;
  const Result<void> begun = nowhere.begin("/nonexistent/folder/file.gguf");
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().kind, ErrorKind::kUnreadable);

  GgufWriter full;
  full.add_tensor("vector", TensorType::kF32, {1u << 20});
  Result<void> written = full.begin("/dev/full");
  if (written) written = full.append(counting_bytes(std::size_t{4} << 20));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kUnreadable);
}

TEST(Gguf, ReadsVersionTwoAndOtherAlignments) {
  RawGguf file;
  file.version = 2;
  file.alignment = 64;
  file.values = {raw_string("general.alignment") + raw(4u) + raw(64u)};
  file.tensors[1].offset = 64;
  file.data_bytes = 128;
  const TemporaryFile path("aligned.gguf");
  path.write(file.bytes());
  const Result<GgufFile> read = GgufFile::open(path.path());
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->version(), 2u);
  EXPECT_EQ(read->alignment(), 64u);
  EXPECT_EQ(read->tensors()[1].data.data() - read->tensors()[0].data.data(), 64);
}

TEST(Gguf, ReadsEveryWidthOfNumber) {
  RawGguf file;
  file.values = {
      raw_string("u8") + raw(0u) + raw(std::uint8_t{200}),
      raw_string("i8") + raw(1u) + raw(std::int8_t{-100}),
      raw_string("u16") + raw(2u) + raw(std::uint16_t{60000}),
      raw_string("i16") + raw(3u) + raw(std::int16_t{-30000}),
      raw_string("i64") + raw(11u) + raw(std::int64_t{-5}),
      raw_string("f64") + raw(12u) + raw(0.1),
      raw_string("u8s") + raw(9u) + raw(0u) + raw(std::uint64_t{2}) + "\x01\xff",
  };
  const TemporaryFile path("widths.gguf");
  path.write(file.bytes());
  const Result<GgufFile> read = GgufFile::open(path.path());
  ASSERT_TRUE(read) << read.error().message();
  const std::vector<std::pair<std::string, GgufValue>> expected = {
      {"u8", std::uint64_t{200}},
      {"i8", std::int64_t{-100}},
      {"u16", std::uint64_t{60000}},
      {"i16", std::int64_t{-30000}},
      {"i64", std::int64_t{-5}},
      {"f64", 0.1},
      {"u8s", std::vector<std::uint64_t>{1, 255}},
  };
  EXPECT_EQ(read->metadata(), expected);
}

TEST(Gguf, NamesKeyAndFileOfARequiredValue) {
  RawGguf file;
  file.values = {
      raw_string("integer") + raw(4u) + raw(7u),
      raw_string("signed") + raw(5u) + raw(7),
      raw_string("negative") + raw(5u) + raw(-7),
      raw_string("text") + raw(8u) + raw_string("seven"),
      raw_string("float") + raw(6u) + raw(0.5f),
      raw_string("list") + raw(9u) + raw(8u) + raw(std::uint64_t{0}),
  };
  const TemporaryFile path("required.gguf");
  path.write(file.bytes());
  const Result<GgufFile> read = GgufFile::open(path.path());
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(*read->required_unsigned("integer"), 7u);
  EXPECT_EQ(*read->required_unsigned("signed"), 7u);
  EXPECT_EQ(*read->required_string("text"), "seven");
  EXPECT_EQ(*read->required_float("float"), 0.5);

  const Result<std::uint64_t> missing = read->required_unsigned("absent");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kMissingKey);
  EXPECT_EQ(missing.error().message(), "MissingKey: " + path.path().string() +
                                           ": absent: expected an unsigned integer, found no "
                                           "such key");
  const Result<std::uint64_t> negative = read->required_unsigned("negative");
  ASSERT_FALSE(negative);
  EXPECT_EQ(negative.error().kind, ErrorKind::kMalformed);
  EXPECT_EQ(negative.error().found, "-7");
  EXPECT_EQ(read->required_unsigned("text").error().found, "a string");
  EXPECT_EQ(read->required_float("integer").error().found, "an unsigned integer");
  EXPECT_EQ(read->required_string("list").error().found, "an array of strings");
}

TEST(Gguf, OpensTheOraclePacksWithTheirExpectations) {
  for (const std::string name : {"nano", "tiny", "gqa", "mixed"}) {
    const Result<GgufFile> expected = GgufFile::open(kPacks / (name + ".expected.gguf"));
    ASSERT_TRUE(expected) << expected.error().message();
    const GgufTensor* const tokens = expected->find_tensor("tokens");
    ASSERT_NE(tokens, nullptr);
    EXPECT_EQ(tokens->type, TensorType::kI32);
    const GgufTensor* const logits = expected->find_tensor("logits");
    ASSERT_NE(logits, nullptr);
    EXPECT_EQ(logits->shape[0], tokens->shape[0]);
  }
}

}  // namespace
}  // namespace refute
