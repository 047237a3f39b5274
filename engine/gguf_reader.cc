#include <algorithm>
#include <optional>
#include <unordered_set>

#include "engine/gguf.h"
#include "engine/gguf_cursor.h"
#include "engine/gguf_format.h"
#include "engine/gguf_values.h"

namespace refute {
namespace {

// What the file says of a tensor, before its data is found.
struct TensorDeclaration {
  GgufTensor tensor;
  std::size_t bytes = 0;
  std::uint64_t offset = 0;  // From the start of the data section.
};

struct Counts {
  std::uint64_t tensors = 0;
  std::uint64_t values = 0;
};

Result<std::uint32_t> read_version(GgufCursor& cursor) {
  const auto magic = cursor.take(kGgufMagic.size(), 1);
  if (!magic) return magic.error();
  if (std::memcmp(magic->data(), kGgufMagic.data(), kGgufMagic.size()) != 0) {
    const std::string_view found(reinterpret_cast<const char*>(magic->data()), magic->size());
    return cursor.error(ErrorKind::kMalformed, "'GGUF'", quoted_name(found));
  }
  const auto version = cursor.number<std::uint32_t>();
  if (!version) return version.error();
  if (*version == 2 || *version == 3) return *version;
  // The other byte order shows as a version whose low half is zero.
  if ((*version & 0xffffu) == 0 && *version != 0) {
    return cursor.error(ErrorKind::kUnsupported, "a little-endian file", "a big-endian one");
  }
  return cursor.error(ErrorKind::kUnsupported, "GGUF version 2 or 3", std::to_string(*version));
}

Result<Counts> read_counts(GgufCursor& cursor) {
  const auto tensors = cursor.number<std::uint64_t>();
  if (!tensors) return tensors.error();
  const auto values = cursor.number<std::uint64_t>();
  if (!values) return values.error();
  return Counts{*tensors, *values};
}

// A key or a tensor's name: a string that is not empty and not in `seen` yet.
Result<std::string> read_new_name(GgufCursor& cursor, std::unordered_set<std::string>& seen) {
  Result<std::string> name = cursor.string();
  if (!name) return name.error();
  if (name->empty()) return cursor.error(ErrorKind::kMalformed, "a name", "an empty one");
  if (!seen.insert(*name).second) {
    return cursor.error(ErrorKind::kMalformed, "every name once", quoted_name(*name) + " again");
  }
  return name;
}

Result<std::vector<std::pair<std::string, GgufValue>>> read_metadata(GgufCursor& cursor,
                                                                     std::uint64_t count) {
  std::vector<std::pair<std::string, GgufValue>> metadata;
  std::unordered_set<std::string> seen;
  for (std::uint64_t i = 0; i < count; ++i) {
    cursor.set_context("metadata key " + std::to_string(i) + " of " + std::to_string(count));
    Result<std::string> key = read_new_name(cursor, seen);
    if (!key) return key.error();
    cursor.set_context("metadata " + quoted_name(*key));
    Result<GgufValue> value = read_gguf_value(cursor);
    if (!value) return value.error();
    metadata.emplace_back(std::move(*key), std::move(*value));
  }
  return metadata;
}

// Outermost first, as GgufTensor has them.
Result<std::vector<std::size_t>> read_shape(GgufCursor& cursor) {
  const auto num_dimensions = cursor.number<std::uint32_t>();
  if (!num_dimensions) return num_dimensions.error();
  if (*num_dimensions < 1 || *num_dimensions > kGgufMaxDimensions) {
    return cursor.error(ErrorKind::kMalformed, "1 to 4 dimensions",
                        std::to_string(*num_dimensions));
  }
  std::vector<std::size_t> shape(*num_dimensions);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const auto dimension = cursor.number<std::uint64_t>();
    if (!dimension) return dimension.error();
    if (*dimension == 0) {
      return cursor.error(ErrorKind::kMalformed, "positive dimensions", "a dimension of 0");
    }
    shape[shape.size() - 1 - i] = *dimension;
  }
  return shape;
}

// rows * ceil(columns / block) * block bytes; empty when that, or the elements, passes 2^64.
std::optional<std::size_t> tensor_bytes(TensorType type, std::span<const std::size_t> shape) {
  const TensorTypeInfo& info = tensor_type_info(type);
  std::size_t elements = 1;
  for (const std::size_t dimension : shape) {
    if (__builtin_mul_overflow(elements, dimension, &elements)) return std::nullopt;
  }
  std::size_t bytes = 0;
  const std::size_t blocks = elements / info.block_size;
  if (__builtin_mul_overflow(blocks, info.block_bytes, &bytes)) return std::nullopt;
  return bytes;
}

Result<TensorDeclaration> read_declaration(GgufCursor& cursor, std::string name) {
  cursor.set_context("tensor " + quoted_name(name));
  Result<std::vector<std::size_t>> shape = read_shape(cursor);
  if (!shape) return shape.error();
  const auto type_id = cursor.number<std::uint32_t>();
  if (!type_id) return type_id.error();
  const std::optional<TensorType> type = tensor_type_of_id(*type_id);
  if (!type) {
    return cursor.error(ErrorKind::kUnsupported, "one of " + weight_types_text(),
                        ggml_type_text(*type_id));
  }
  const TensorTypeInfo& info = tensor_type_info(*type);
  if (shape->back() % info.block_size != 0) {
    return cursor.error(ErrorKind::kMalformed,
                        "columns in multiples of " + std::to_string(info.block_size) + " for " +
                            std::string(info.name),
                        std::to_string(shape->back()));
  }
  const std::optional<std::size_t> bytes = tensor_bytes(*type, *shape);
  GgufTensor tensor{std::move(name), *type, std::move(*shape), {}};
  if (!bytes) {
    return cursor.error(ErrorKind::kMalformed, "fewer than 2^64 bytes",
                        "shape " + tensor.shape_text());
  }
  const auto offset = cursor.number<std::uint64_t>();
  if (!offset) return offset.error();
  return TensorDeclaration{std::move(tensor), *bytes, *offset};
}

Result<std::vector<TensorDeclaration>> read_declarations(GgufCursor& cursor, std::uint64_t count) {
  std::vector<TensorDeclaration> declarations;
  std::unordered_set<std::string> seen;
  for (std::uint64_t i = 0; i < count; ++i) {
    cursor.set_context("tensor " + std::to_string(i) + " of " + std::to_string(count));
    Result<std::string> name = read_new_name(cursor, seen);
    if (!name) return name.error();
    Result<TensorDeclaration> declaration = read_declaration(cursor, std::move(*name));
    if (!declaration) return declaration.error();
    declarations.push_back(std::move(*declaration));
  }
  return declarations;
}

Result<std::size_t> alignment_of(const GgufFile& file) {
  if (file.find_value(kGgufAlignmentKey) == nullptr) return kGgufDefaultAlignment;
  const Result<std::uint64_t> alignment = file.required_unsigned(kGgufAlignmentKey);
  if (!alignment) return alignment.error();
  if (*alignment == 0 || *alignment % 8 != 0 || *alignment > 0x80000000u) {
    return Error{ErrorKind::kMalformed,
                 file.path().string() + ": " + std::string(kGgufAlignmentKey),
                 "a multiple of 8, at most 2^31", std::to_string(*alignment)};
  }
  return static_cast<std::size_t>(*alignment);
}

// The tensors with their bytes. Every one must start where the one before it, padded, ends, and the
// file must end where the last one, padded, does.
Result<std::vector<GgufTensor>> place_tensors(std::span<const std::byte> file_bytes,
                                              const std::string& file, std::size_t header_bytes,
                                              std::size_t alignment,
                                              std::vector<TensorDeclaration> declarations) {
  std::vector<GgufTensor> tensors;
  if (declarations.empty()) return tensors;
  const std::optional<std::size_t> data_start = align_up(header_bytes, alignment);
  CHECK(data_start.has_value());  // The header lies in the file, the alignment is at most 2^31.

  std::size_t offset = 0;  // From data_start, where the next tensor has to be.
  for (TensorDeclaration& declaration : declarations) {
    const std::string where = file + ": tensor " + quoted_name(declaration.tensor.name);
    if (declaration.offset != offset) {
      return Error{ErrorKind::kMalformed, where, "offset " + std::to_string(offset),
                   "offset " + std::to_string(declaration.offset)};
    }
    const std::optional<std::size_t> padded = align_up(declaration.bytes, alignment);
    std::size_t begin = 0;
    std::size_t end = 0;
    if (!padded || __builtin_add_overflow(*data_start, offset, &begin) ||
        __builtin_add_overflow(begin, *padded, &end)) {
      return Error{
          ErrorKind::kMalformed, where, "an end below 2^64",
          std::to_string(declaration.bytes) + " bytes at offset " + std::to_string(offset)};
    }
    if (end > file_bytes.size()) {
      const std::size_t found = file_bytes.size() - std::min(begin, file_bytes.size());
      return Error{ErrorKind::kUnreadable, where,
                   std::to_string(*padded) + " bytes with padding at byte " + std::to_string(begin),
                   std::to_string(found) + " before the end of the file"};
    }
    declaration.tensor.data = file_bytes.subspan(begin, declaration.bytes);
    tensors.push_back(std::move(declaration.tensor));
    offset += *padded;
  }
  if (*data_start + offset != file_bytes.size()) {
    return Error{ErrorKind::kMalformed, file,
                 "the file to end at byte " + std::to_string(*data_start + offset),
                 std::to_string(file_bytes.size()) + " bytes"};
  }
  return tensors;
}

}  // namespace

std::size_t GgufTensor::num_elements() const {
  std::size_t elements = 1;
  for (const std::size_t dimension : shape) elements *= dimension;
  return elements;
}

std::string GgufTensor::shape_text() const { return refute::shape_text(shape); }

std::string shape_text(std::span<const std::size_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
  Result<MappedFile> mapped = MappedFile::open(path);
  if (!mapped) return mapped.error();
  GgufFile file(std::move(*mapped));
  file.path_ = path;

  GgufCursor cursor(file.bytes(), path.string());
  const Result<std::uint32_t> version = read_version(cursor);
  if (!version) return version.error();
  file.version_ = *version;
  const Result<Counts> counts = read_counts(cursor);
  if (!counts) return counts.error();
  auto metadata = read_metadata(cursor, counts->values);
  if (!metadata) return metadata.error();
  file.metadata_ = std::move(*metadata);
  auto declarations = read_declarations(cursor, counts->tensors);
  if (!declarations) return declarations.error();
  const Result<std::size_t> alignment = alignment_of(file);
  if (!alignment) return alignment.error();
  file.alignment_ = *alignment;
  auto tensors = place_tensors(file.bytes(), path.string(), cursor.offset(), file.alignment_,
                               std::move(*declarations));
  if (!tensors) return tensors.error();
  file.tensors_ = std::move(*tensors);
  return file;
}

const GgufValue* GgufFile::find_value(std::string_view key) const {
  const auto found =
      std::ranges::find_if(metadata_, [&](const auto& entry) { return entry.first == key; });
  return found == metadata_.end() ? nullptr : &found->second;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = std::ranges::find(tensors_, name, &GgufTensor::name);
  return found == tensors_.end() ? nullptr : &*found;
}

Error GgufFile::key_error(ErrorKind kind, std::string_view key, std::string expected,
                          std::string found) const {
  return {kind, path_.string() + ": " + std::string(key), std::move(expected), std::move(found)};
}

template <typename T>
Result<T> GgufFile::required(std::string_view key, std::string_view expected) const {
  const GgufValue* const value = find_value(key);
  if (value == nullptr) {
    return key_error(ErrorKind::kMissingKey, key, std::string(expected), "no such key");
  }
  if (const T* const held = std::get_if<T>(value)) return *held;
  return key_error(ErrorKind::kMalformed, key, std::string(expected), gguf_value_kind(*value));
}

Result<std::uint64_t> GgufFile::required_unsigned(std::string_view key) const {
  const GgufValue* const value = find_value(key);
  const std::int64_t* const held = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
  if (held == nullptr) return required<std::uint64_t>(key, "an unsigned integer");
  if (*held >= 0) return static_cast<std::uint64_t>(*held);
  return key_error(ErrorKind::kMalformed, key, "an unsigned integer", std::to_string(*held));
}

Result<double> GgufFile::required_float(std::string_view key) const {
  return required<double>(key, "a float");
}

Result<std::string> GgufFile::required_string(std::string_view key) const {
  return required<std::string>(key, "a string");
}

Result<bool> GgufFile::required_bool(std::string_view key) const {
  return required<bool>(key, "a bool");
}

}  // namespace refute
