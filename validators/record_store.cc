#include "validators/record_store.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>
#include <tuple>

#include "validators/sha256.h"

namespace refute {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxRecordBytes = 64 * 1024 * 1024;

Result<RunRecord> load_record(const fs::path& path) {
  std::error_code error;
  if (fs::file_size(path, error) > kMaxRecordBytes || error) {
    return Error{ErrorKind::kUnreadable, path.string(), "a record",
                 "a file too large or unreadable"};
  }
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in)
    return Error{ErrorKind::kUnreadable, path.string(), "a readable file", "an unreadable one"};
  return read_record(path.string(), text.str());
}

Error cannot_write(const fs::path& path, const std::error_code& error) {
  return {ErrorKind::kUnreadable, path.string(), "a place that can be written",
          error ? error.message() : "a failed write"};
}

}  // namespace

RecordStore load_records(std::span<const fs::path> folders) {
  RecordStore store;
  std::set<fs::path> files;  // Sorted, so that the outcome does not depend on the file system.
  for (const fs::path& folder : folders) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      std::error_code of_entry;
      const fs::path file = fs::weakly_canonical(entry.path(), of_entry);
      if (entry.path().extension() == ".json") files.insert(of_entry ? entry.path() : file);
    }
    if (error && error != std::errc::no_such_file_or_directory) {
      store.rejected.push_back(
          {ErrorKind::kUnreadable, folder.string(), "a folder of records", error.message()});
    }
  }
  for (const fs::path& path : files) {
    Result<RunRecord> record = load_record(path);
    if (record) {
      store.records.push_back({path.filename().string(), *std::move(record)});
    } else {
      store.rejected.push_back(record.error());
    }
  }
  std::sort(store.records.begin(), store.records.end(),
            [](const StoredRecord& a, const StoredRecord& b) {
              return std::tie(a.record.started_at, a.file) < std::tie(b.record.started_at, b.file);
            });
  return store;
}

Result<void> check_record_folder(const fs::path& folder) {
  std::error_code error;
  fs::path at = fs::absolute(folder, error);
  while (!error && !fs::exists(at, error) && at.has_relative_path()) at = at.parent_path();
  if (error) return cannot_write(folder, error);
  if (!fs::is_directory(at, error)) {
    return cannot_write(folder, std::make_error_code(std::errc::not_a_directory));
  }
  if (access(at.c_str(), W_OK | X_OK) != 0) {
    return cannot_write(folder, std::error_code(errno, std::generic_category()));
  }
  return {};
}

Result<fs::path> store_record(const fs::path& folder, const RunRecord& record) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return cannot_write(folder, error);
  const std::string text = write_record(record);
  std::string name;
  for (const char letter : record.started_at) {
    if (letter != ':' && letter != '-') name += letter;
  }
  name += "-" + sha256_hex(text).substr(0, 8) + ".json";
  const fs::path path = folder / name;
  const fs::path partial = folder / ("." + name + "." + std::to_string(getpid()) + ".partial");
  std::ofstream out(partial, std::ios::binary);
  out << text;
  out.close();
  if (!out) {
    fs::remove(partial, error);
    return cannot_write(folder, {});
  }
  fs::rename(partial, path, error);
  if (error) return cannot_write(path, error);
  return path;
}

}  // namespace refute
