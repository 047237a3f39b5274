// The model under test and its expectations: from files, or those that the binary carries.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

#include "engine/memory_file.h"
#include "engine/model.h"
#include "falsifiers/oracle_pack.h"
#include "kernels/result.h"
#include "validators/embedded_files.h"

namespace refute {

// What a user asks for.
struct SubjectRequest {
  std::filesystem::path model;  // Empty: the embedded one.
  // A file, or "none" to do without on purpose; empty: NAME.expected.gguf beside the model where it
  // exists (the embedded expectations for the embedded model).
  std::string expected;
  std::size_t num_threads = 0;  // For loading; 0 takes the number of processors.
};

struct LoadedSubject {
  std::string name;  // The model's file name, "kjv-moe-7m (embedded)" for the embedded one.
  bool embedded = false;
  std::optional<MemoryFile> memory;  // What model.path() names, for the embedded one.
  Model model;
  std::string model_sha256;
  std::optional<OraclePack> pack;
  std::string pack_name;     // Empty without a pack.
  std::string pack_sha256;   // The same.
  bool pack_waived = false;  // By "none".
};

// Errors: those of Model::load and OraclePack::load.
Result<LoadedSubject> load_subject(const SubjectRequest& request);

// NAME.expected.gguf for NAME.gguf.
std::filesystem::path sibling_expectations(const std::filesystem::path& model);

// The model alone, embedded when `path` is empty; then its path() names nothing any more.
Result<Model> load_model(const std::filesystem::path& path, std::size_t num_threads,
                         ScaleCheck check = ScaleCheck::kWhenLoaded);

}  // namespace refute
