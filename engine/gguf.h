// The GGUF container (versions 2 and 3, little-endian): a reader over a memory map and a streaming
// writer. Knows types, lengths and offsets; what the keys and tensors mean is engine/gguf_names.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/mapped_file.h"
#include "kernels/quant/tensor_type.h"
#include "kernels/result.h"

namespace refute {

// A metadata value. Integers keep their signedness, not their width.
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string,
                               std::vector<std::uint64_t>, std::vector<std::int64_t>,
                               std::vector<double>, std::vector<bool>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  TensorType type;
  // Outermost first (the file stores innermost first), 1 to 4 long.
  std::vector<std::size_t> shape;
  std::span<const std::byte> data;

  std::size_t num_elements() const;
  std::string shape_text() const;
};

// "[8, 256, 256]"
std::string shape_text(std::span<const std::size_t> shape);

class GgufFile {
 public:
  // kUnreadable when the file is missing, empty or ends before its contents do (the padding after
  // the last tensor is part of them); kMalformed when the bytes do not follow the format (a name
  // twice, an offset that is unaligned, overlaps or leaves a gap, bytes after the last tensor,
  // lengths near 2^64); kUnsupported for other versions, big-endian files, nested arrays and
  // unknown types, which name the tensor.
  static Result<GgufFile> open(const std::filesystem::path& path);

  std::uint32_t version() const { return version_; }
  std::size_t alignment() const { return alignment_; }
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  const std::filesystem::path& path() const { return path_; }

  const std::vector<std::pair<std::string, GgufValue>>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufValue* find_value(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;

  // An error whose place is "FILE: KEY".
  Error key_error(ErrorKind kind, std::string_view key, std::string expected,
                  std::string found) const;

  // The value of `key`: kMissingKey names key and file, kMalformed says which type was found. A
  // signed integer that is not negative passes as unsigned.
  Result<std::uint64_t> required_unsigned(std::string_view key) const;
  Result<double> required_float(std::string_view key) const;
  Result<std::string> required_string(std::string_view key) const;
  Result<bool> required_bool(std::string_view key) const;

 private:
  explicit GgufFile(MappedFile file) : file_(std::move(file)) {}

  template <typename T>
  Result<T> required(std::string_view key, std::string_view expected) const;

  MappedFile file_;
  std::filesystem::path path_;
  std::uint32_t version_ = 0;
  std::size_t alignment_ = 32;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<GgufTensor> tensors_;
};

// Writes a version 3 file: metadata and tensor declarations first, then every tensor's bytes in the
// declared order, in pieces of any size, so that a file needs no more memory than one piece.
//
//   GgufWriter writer;
//   writer.add_value("general.architecture", std::string("qwen3moe"));
//   writer.add_tensor("token_embd.weight", TensorType::kQ4_K, {vocab_size, hidden_size});
//   writer.begin(path);  writer.append(bytes); ...  writer.finish();
class GgufWriter {
 public:
  // Integers are stored as u32 or i32 (u64 or i64 where they do not fit), floats as f32, integer
  // arrays of either signedness as i32 (u64 or i64 where an element does not fit). Preconditions: a
  // key that is new and not general.alignment, which stays at its default of 32.
  void add_value(std::string key, GgufValue value);
  // Preconditions: a name that is new, 1 to 4 positive dimensions, columns a multiple of the type's
  // block size.
  void add_tensor(std::string name, TensorType type, std::vector<std::size_t> shape);

  // Writes everything up to the first tensor's data. kUnreadable when the path cannot be written.
  Result<void> begin(const std::filesystem::path& path);
  // Of the declared tensors, without padding.
  std::size_t tensor_bytes() const;
  // The next bytes of tensor data; a tensor that is complete is padded and the next one starts.
  // kInvalidShape when more is given than was declared; kUnreadable when the disk is full.
  Result<void> append(std::span<const std::byte> bytes);
  // kInvalidShape unless every declared byte was written.
  Result<void> finish();

 private:
  struct Declared {
    std::string name;
    TensorType type;
    std::vector<std::size_t> shape;
    std::size_t bytes;
  };

  void write(std::string_view bytes);
  void pad();  // With zeros, to the next multiple of the alignment.
  Result<void> check_written() const;

  std::vector<std::pair<std::string, GgufValue>> values_;
  std::vector<Declared> tensors_;
  std::filesystem::path path_;
  std::ofstream out_;
  std::size_t position_ = 0;  // Bytes written to the file.
  std::size_t current_ = 0;   // Tensor being written.
  std::size_t written_ = 0;   // Bytes of it so far.
};

}  // namespace refute
