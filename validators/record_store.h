// Folders of records: writing one, and reading all.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "kernels/result.h"
#include "validators/record.h"

namespace refute {

// Where `run` writes and `status` reads, under the current folder.
inline constexpr const char* kDefaultRecordFolder = ".refute/records";

struct StoredRecord {
  std::string file;
  RunRecord record;
};

struct RecordStore {
  std::vector<StoredRecord> records;  // Oldest first.
  std::vector<Error> rejected;        // Files that are no record; they count for nothing.
};

// Every *.json of the folders, each file once; a folder that does not exist holds none.
RecordStore load_records(std::span<const std::filesystem::path> folders);

// kUnreadable when the folder can be neither written to nor made. Makes nothing.
Result<void> check_record_folder(const std::filesystem::path& folder);

// Writes a new file, complete or not at all, and returns its path; makes the folder. kUnreadable
// when it cannot.
Result<std::filesystem::path> store_record(const std::filesystem::path& folder,
                                           const RunRecord& record);

}  // namespace refute
