#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "engine/gguf.h"
#include "engine/model.h"
#include "tests/engine/gguf_fixtures.h"

namespace refute {
namespace {

using Edit = std::function<void(RawGguf&)>;

// What opening a file with these bytes says; empty when it opens.
std::string open_message(const std::string& bytes) {
  const TemporaryFile file("bad.gguf");
  file.write(bytes);
  const Result<GgufFile> opened = GgufFile::open(file.path());
  return opened ? std::string() : opened.error().message();
}

std::string message_of(const Edit& edit) {
  RawGguf file;
  edit(file);
  return open_message(file.bytes());
}

// The message has all of these in it.
void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' in: " << message;
  }
}

Edit value(const std::string& bytes) {
  return [bytes](RawGguf& file) { file.values = {bytes}; };
}

constexpr std::uint64_t kNearEnd = ~std::uint64_t{0};

TEST(GgufBadFile, IsOnlyBadByTheOneThingThatATestChanges) {
  EXPECT_EQ(message_of([](RawGguf&) {}), "");
}

TEST(GgufBadFile, ThatIsNoFileIsUnreadable) {
  expect_parts(GgufFile::open("/nonexistent.gguf").error().message(),
               {"Unreadable: /nonexistent.gguf", "No such file"});
  expect_parts(GgufFile::open("/").error().message(), {"Unreadable: /", "a directory"});
  expect_parts(GgufFile::open("/dev/null").error().message(), {"Unreadable", "a special file"});
  expect_parts(open_message(""), {"Unreadable", "an empty file"});
}

TEST(GgufBadFile, WithAnotherMagicOrVersionIsRefused) {
  expect_parts(open_message("GG"), {"Unreadable", "4 more bytes", "2 before the end"});
  expect_parts(message_of([](RawGguf& f) { f.magic = "GGML"; }),
               {"Malformed", "expected 'GGUF', found 'GGML'"});
  expect_parts(message_of([](RawGguf& f) { f.magic = std::string("\0\n\x7fX", 4); }),
               {"Malformed", "found '\\x00\\x0a\\x7fX'"});
  for (const std::uint32_t version : {0u, 1u, 4u}) {
    expect_parts(message_of([&](RawGguf& f) { f.version = version; }),
                 {"Unsupported", "version 2 or 3, found " + std::to_string(version)});
  }
  expect_parts(message_of([](RawGguf& f) { f.version = 0x03000000; }),
               {"Unsupported", "a little-endian file, found a big-endian one"});
}

TEST(GgufBadFile, WithCountsPastItsEndIsRefused) {
  for (const std::uint64_t count : {std::uint64_t{3}, std::uint64_t{1000}, kNearEnd}) {
    expect_parts(message_of([&](RawGguf& f) { f.value_count = count; }), {": metadata"});
    expect_parts(message_of([&](RawGguf& f) { f.tensor_count = count; }), {": tensor"});
  }
}

TEST(GgufBadFile, WithBadKeysIsRefused) {
  const std::string number = raw(4u) + raw(1u);
  expect_parts(message_of(value(raw(kNearEnd) + "key" + number)),
               {"Malformed", "metadata key 0 of 1", "at most 2^48", std::to_string(kNearEnd)});
  expect_parts(message_of(value(raw(std::uint64_t{1} << 40) + "key" + number)),
               {"Unreadable", "1099511627776 more bytes"});
  expect_parts(message_of(value(raw_string("") + number)), {"Malformed", "an empty one"});
  expect_parts(message_of([&](RawGguf& f) {
                 f.values = {raw_string("key") + number, raw_string("key") + number};
               }),
               {"Malformed", "metadata key 1 of 2", "every name once, found 'key' again"});
}

TEST(GgufBadFile, WithBadValuesIsRefused) {
  const std::string key = raw_string("key");
  const std::string array = key + raw(9u);
  expect_parts(message_of(value(key + raw(13u) + raw(1u))),
               {"Malformed", "metadata 'key'", "a value type of 0 to 12, found 13"});
  expect_parts(message_of(value(key + raw(~0u))), {"Malformed", "4294967295"});
  expect_parts(message_of(value(key + raw(7u) + "\x02")), {"Malformed", "a bool of 0 or 1"});
  expect_parts(message_of(value(key + raw(8u) + raw(kNearEnd - 7))), {"Malformed", "2^48"});
  expect_parts(message_of(value(array + raw(9u) + raw(std::uint64_t{1}))),
               {"Unsupported", "an array of arrays"});
  expect_parts(message_of(value(array + raw(99u) + raw(std::uint64_t{1}))),
               {"Malformed", "found 99"});
  for (const std::uint32_t type : {0u, 4u, 7u, 10u, 12u}) {
    expect_parts(message_of(value(array + raw(type) + raw(kNearEnd))), {"Malformed", "2^48"});
    expect_parts(message_of(value(array + raw(type) + raw(std::uint64_t{1} << 47))),
                 {"Unreadable", "metadata 'key'"});
  }
  expect_parts(message_of(value(array + raw(8u) + raw(kNearEnd))), {"metadata 'key'"});
}

TEST(GgufBadFile, WithABadAlignmentIsRefused) {
  const std::string key = raw_string("general.alignment");
  for (const std::uint32_t alignment : {0u, 1u, 12u, 33u}) {
    expect_parts(message_of(value(key + raw(4u) + raw(alignment))),
                 {"Malformed", "general.alignment", "a multiple of 8", std::to_string(alignment)});
  }
  expect_parts(message_of(value(key + raw(10u) + raw(std::uint64_t{1} << 63))), {"Malformed"});
  expect_parts(message_of(value(key + raw(8u) + raw_string("32"))),
               {"Malformed", "found a string"});
}

TEST(GgufBadFile, WithABadTensorDeclarationIsRefused) {
  expect_parts(message_of([](RawGguf& f) { f.tensors[1].name = ""; }),
               {"Malformed", "tensor 1 of 2", "an empty one"});
  expect_parts(message_of([](RawGguf& f) { f.tensors[1].name = "a"; }), {"Malformed", "'a' again"});
  expect_parts(message_of([](RawGguf& f) { f.tensors[1].num_dimensions = 0; }),
               {"Malformed", "tensor 'b'", "1 to 4 dimensions, found 0"});
  expect_parts(message_of([](RawGguf& f) {
                 f.tensors[1].dimensions = {1, 1, 1, 1, 3};
               }),
               {"Malformed", "1 to 4 dimensions, found 5"});
  expect_parts(message_of([](RawGguf& f) {
                 f.tensors[1].dimensions = {3, 0};
               }),
               {"Malformed", "tensor 'b'", "a dimension of 0"});
  const std::uint64_t huge = std::uint64_t{1} << 40;
  expect_parts(message_of([&](RawGguf& f) {
                 f.tensors[1].dimensions = {huge, huge};
               }),
               {"Malformed", "tensor 'b'", "fewer than 2^64 bytes"});
  expect_parts(message_of([&](RawGguf& f) { f.tensors[1].dimensions = {std::uint64_t{1} << 62}; }),
               {"Malformed", "tensor 'b'", "fewer than 2^64 bytes"});
  expect_parts(
      message_of([&](RawGguf& f) { f.tensors[1].dimensions = {(std::uint64_t{1} << 62) - 1}; }),
      {"Malformed", "tensor 'b'", "an end below 2^64"});
  expect_parts(message_of([&](RawGguf& f) { f.tensors[1].dimensions = {huge}; }),
               {"Unreadable", "tensor 'b'", "4398046511104 bytes", "found 32 before the end"});
}

TEST(GgufBadFile, WithATypeThatIsNotImplementedNamesTensorAndType) {
  const std::vector<std::pair<std::uint32_t, std::string>> types = {
      {2, "type id 2 (Q4_0)"}, {6, "(Q5_0)"},     {10, "(Q2_K)"},
      {11, "(Q3_K)"},          {16, "(IQ2_XXS)"}, {23, "(IQ4_XS)"},
      {39, "(MXFP4)"},         {4, "type id 4"},  {99, "found type id 99"},
  };
  for (const auto& [id, text] : types) {
    expect_parts(message_of([&](RawGguf& f) { f.tensors[1].type = id; }),
                 {"Unsupported", "tensor 'b'", "F32, F16, BF16, Q8_0, Q4_K, Q5_K, Q6_K", text});
  }
}

TEST(GgufBadFile, WithColumnsThatAreNoMultipleOfTheBlockIsRefused) {
  const std::vector<std::pair<std::uint32_t, std::uint64_t>> types = {
      {8, 31}, {12, 255}, {13, 128}, {14, 257}};
  for (const auto& [id, columns] : types) {
    expect_parts(message_of([&](RawGguf& f) {
                   f.tensors[1].type = id;
                   f.tensors[1].dimensions = {columns, 256};
                 }),
                 {"Malformed", "tensor 'b'", "columns in multiples of", std::to_string(columns)});
  }
}

TEST(GgufBadFile, WithAnOffsetThatIsNotWhereTheTensorBeforeEndsIsRefused) {
  for (const std::uint64_t offset :
       {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{31}, std::uint64_t{64}, kNearEnd}) {
    expect_parts(
        message_of([&](RawGguf& f) { f.tensors[1].offset = offset; }),
        {"Malformed", "tensor 'b': expected offset 32", "found offset " + std::to_string(offset)});
  }
  expect_parts(message_of([](RawGguf& f) { f.tensors[0].offset = 32; }),
               {"Malformed", "tensor 'a': expected offset 0"});
}

TEST(GgufBadFile, ThatEndsEarlyOrLateIsRefused) {
  expect_parts(message_of([](RawGguf& f) { f.data_bytes = 0; }),
               {"Unreadable", "tensor 'a'", "32 bytes with padding", "found 0 before the end"});
  expect_parts(message_of([](RawGguf& f) { f.data_bytes = 40; }),
               {"Unreadable", "tensor 'b'", "found 8 before the end"});
  expect_parts(message_of([](RawGguf& f) { f.data_bytes = 63; }),
               {"Unreadable", "tensor 'b'", "found 31 before the end"});
  expect_parts(message_of([](RawGguf& f) { f.data_bytes = 65; }),
               {"Malformed", "the file to end at byte"});
}

TEST(GgufBadFile, PrintsHostileNamesOnOneShortLine) {
  const std::string message = message_of([](RawGguf& f) {
    f.tensors[1].name = std::string(300, '\n');
    f.tensors[1].type = 2;
  });
  expect_parts(message, {"Unsupported", "\\x0a\\x0a"});
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_LT(message.size(), 400u);
}

TEST(GgufBadFile, TruncatedAnywhereIsUnreadable) {
  const TemporaryFile file("truncated.gguf");
  write_model(smallest_model(), file.path());
  const std::size_t size = std::filesystem::file_size(file.path());
  std::size_t header = 0;
  {
    const Result<GgufFile> whole = GgufFile::open(file.path());
    ASSERT_TRUE(whole) << whole.error().message();
    header = static_cast<std::size_t>(whole->tensors()[0].data.data() - whole->bytes().data());
  }
  // Every size up to the first tensor and in the last 64 bytes, every 37th between.
  std::size_t tried = 0;
  for (std::size_t cut = size - 1; cut > 0; --cut) {
    if (cut > header && cut + 64 < size && cut % 37 != 0) continue;
    std::filesystem::resize_file(file.path(), cut);
    const Result<GgufFile> opened = GgufFile::open(file.path());
    ASSERT_FALSE(opened) << "cut to " << cut << " of " << size << " bytes";
    ASSERT_EQ(opened.error().kind, ErrorKind::kUnreadable) << opened.error().message();
    ++tried;
  }
  EXPECT_GT(tried, header);
}

TEST(GgufBadFile, WithRandomBytesInItsHeaderNeverCrashesTheLoader) {
  const TemporaryFile file("flipped.gguf");
  write_model(smallest_model(), file.path());
  const std::string original = file.read();
  const std::size_t header = original.size() - [&] {
    const Result<GgufFile> whole = GgufFile::open(file.path());
    return static_cast<std::size_t>(whole->bytes().data() + whole->bytes().size() -
                                    whole->tensors()[0].data.data());
  }();
  std::size_t refused = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    std::mt19937_64 random(seed);
    std::string bytes = original;
    const std::size_t changes = 1 + random() % 4;
    for (std::size_t i = 0; i < changes; ++i) {
      // Bytes of 0x00 and 0xff reach the ends of ranges that random ones rarely do.
      const std::uint64_t kind = random() % 4;
      const char byte = kind == 0 ? '\0' : kind == 1 ? '\xff' : static_cast<char>(random());
      bytes[random() % header] = byte;
    }
    file.write(bytes);
    const Result<Model> model = Model::load(file.path(), 1);
    if (model) continue;  // Most likely a changed text or number that is still allowed.
    ++refused;
    ASSERT_FALSE(model.error().message().empty());
    ASSERT_EQ(model.error().message().find('\n'), std::string::npos);
  }
  EXPECT_GT(refused, 500u);
}

}  // namespace
}  // namespace refute
