#include <algorithm>

#include "engine/gguf.h"
#include "engine/gguf_format.h"
#include "engine/gguf_values.h"
#include "kernels/check.h"

namespace refute {

void GgufWriter::add_value(std::string key, GgufValue value) {
  CHECK(!key.empty() && key != kGgufAlignmentKey);
  CHECK(std::ranges::none_of(values_, [&](const auto& entry) { return entry.first == key; }));
  values_.emplace_back(std::move(key), std::move(value));
}

void GgufWriter::add_tensor(std::string name, TensorType type, std::vector<std::size_t> shape) {
  CHECK(!name.empty());
  CHECK(std::ranges::find(tensors_, name, &Declared::name) == tensors_.end());
  CHECK(!shape.empty() && shape.size() <= kGgufMaxDimensions);
  CHECK(std::ranges::find(shape, 0u) == shape.end());
  CHECK(shape.back() % tensor_type_info(type).block_size == 0);
  std::size_t bytes = row_bytes(type, shape.back());
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) bytes *= shape[i];
  tensors_.push_back({std::move(name), type, std::move(shape), bytes});
}

std::size_t GgufWriter::tensor_bytes() const {
  std::size_t bytes = 0;
  for (const Declared& tensor : tensors_) bytes += tensor.bytes;
  return bytes;
}

Result<void> GgufWriter::begin(const std::filesystem::path& path) {
  path_ = path;
  out_.open(path, std::ios::binary | std::ios::trunc);
  if (!out_) {
    return Error{ErrorKind::kUnreadable, path.string(), "a path that can be written",
                 "one that cannot be opened"};
  }

  std::string header(kGgufMagic.begin(), kGgufMagic.end());
  append_gguf_number(kGgufVersion, header);
  append_gguf_number(std::uint64_t{tensors_.size()}, header);
  append_gguf_number(std::uint64_t{values_.size()}, header);
  for (const auto& [key, value] : values_) {
    append_gguf_string(key, header);
    append_gguf_value(value, header);
  }
  std::size_t offset = 0;
  for (const Declared& tensor : tensors_) {
    append_gguf_string(tensor.name, header);
    append_gguf_number(static_cast<std::uint32_t>(tensor.shape.size()), header);
    for (std::size_t i = tensor.shape.size(); i-- > 0;) {
      append_gguf_number(std::uint64_t{tensor.shape[i]}, header);
    }
    append_gguf_number(ggml_type_id(tensor.type), header);
    append_gguf_number(std::uint64_t{offset}, header);
    offset += *align_up(tensor.bytes, kGgufDefaultAlignment);
  }
  write(header);
  pad();
  return check_written();
}

Result<void> GgufWriter::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (current_ == tensors_.size()) {
      return Error{ErrorKind::kInvalidShape, path_.string(),
                   std::to_string(tensor_bytes()) + " bytes of tensors",
                   "at least " + std::to_string(bytes.size()) + " more"};
    }
    const std::size_t tensor_size = tensors_[current_].bytes;
    const std::size_t piece = std::min(bytes.size(), tensor_size - written_);
    write({reinterpret_cast<const char*>(bytes.data()), piece});
    bytes = bytes.subspan(piece);
    written_ += piece;
    if (written_ == tensor_size) {
      pad();
      ++current_;
      written_ = 0;
    }
  }
  return check_written();
}

Result<void> GgufWriter::finish() {
  if (current_ != tensors_.size()) {
    const Declared& tensor = tensors_[current_];
    return Error{ErrorKind::kInvalidShape, path_.string() + ": tensor " + quoted_name(tensor.name),
                 std::to_string(tensor.bytes) + " bytes", std::to_string(written_)};
  }
  out_.close();
  return check_written();
}

void GgufWriter::write(std::string_view bytes) {
  out_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  position_ += bytes.size();
}

void GgufWriter::pad() {
  const std::size_t aligned = *align_up(position_, kGgufDefaultAlignment);
  write(std::string(aligned - position_, '\0'));
}

Result<void> GgufWriter::check_written() const {
  if (out_) return {};
  return Error{ErrorKind::kUnreadable, path_.string(),
               std::to_string(position_) + " bytes to be written", "a write that failed"};
}

}  // namespace refute
