#include "validators/subject_files.h"

#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "engine/gguf.h"
#include "validators/sha256.h"

namespace refute {
namespace {

std::string sha256_of(std::span<const std::byte> bytes) {
  return sha256_hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

Result<OraclePack> load_embedded_pack(const Config& config) {
  Result<MemoryFile> file = MemoryFile::create("expectations", embedded_expectations());
  if (!file) return file.error();
  return OraclePack::load(file->path(), config);
}

Result<void> attach_pack(const std::filesystem::path& path, LoadedSubject& subject) {
  Result<OraclePack> pack = OraclePack::load(path, subject.model.config());
  if (!pack) return pack.error();
  const Result<MappedFile> bytes = MappedFile::open(path);
  if (!bytes) return bytes.error();
  subject.pack = *std::move(pack);
  subject.pack_name = path.filename().string();
  subject.pack_sha256 = sha256_of(bytes->bytes());
  return {};
}

Result<void> attach_embedded_pack(LoadedSubject& subject) {
  Result<OraclePack> pack = load_embedded_pack(subject.model.config());
  if (!pack) return pack.error();
  subject.pack = *std::move(pack);
  subject.pack_name = std::string(kEmbeddedSubjectName) + ".expected (embedded)";
  subject.pack_sha256 = embedded_expectations_sha256();
  return {};
}

}  // namespace

std::filesystem::path sibling_expectations(const std::filesystem::path& model) {
  std::filesystem::path sibling = model;
  sibling.replace_extension(".expected.gguf");
  return sibling;
}

Result<Model> load_model(const std::filesystem::path& path, std::size_t num_threads,
                         ScaleCheck check) {
  if (!path.empty()) return Model::load(path, num_threads, check);
  // The model keeps its own mapping, so the file may go.
  const Result<MemoryFile> file = MemoryFile::create("model", embedded_model());
  if (!file) return file.error();
  return Model::load(file->path(), num_threads, check);
}

Result<LoadedSubject> load_subject(const SubjectRequest& request) {
  std::filesystem::path path = request.model;
  std::optional<MemoryFile> memory;
  if (path.empty()) {
    Result<MemoryFile> file = MemoryFile::create("model", embedded_model());
    if (!file) return file.error();
    path = file->path();
    memory.emplace(*std::move(file));
  }
  Result<Model> model = Model::load(path, request.num_threads);
  if (!model) return model.error();
  const bool embedded = request.model.empty();
  std::string digest = embedded ? embedded_model_sha256() : sha256_of(model->file_bytes());
  LoadedSubject subject{
      .name = embedded ? std::string(kEmbeddedSubjectName) + " (embedded)"
                       : request.model.filename().string(),
      .embedded = embedded,
      .memory = std::move(memory),
      .model = *std::move(model),
      .model_sha256 = std::move(digest),
      .pack = std::nullopt,
      .pack_name = "",
      .pack_sha256 = "",
      .pack_waived = request.expected == "none",
  };
  Result<void> attached;
  std::error_code ignored;
  if (subject.pack_waived) {
    return subject;
  } else if (!request.expected.empty()) {
    attached = attach_pack(request.expected, subject);
  } else if (embedded) {
    attached = attach_embedded_pack(subject);
  } else if (const auto sibling = sibling_expectations(request.model);
             std::filesystem::exists(sibling, ignored)) {
    attached = attach_pack(sibling, subject);
  }
  if (!attached) return attached.error();
  return subject;
}

}  // namespace refute
