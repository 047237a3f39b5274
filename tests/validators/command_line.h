// Runs the real `refute` binary in a folder of the test's own.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/validators/test_folder.h"

namespace refute {

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// `text` with the first `from`, which must be there, as `to`.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

struct CommandResult {
  int exit_code = -1;
  std::string out;
  std::string err;
};

// A folder that is the working directory of every command, removed at the end.
class CommandLine {
 public:
  const std::filesystem::path& folder() const { return folder_.path(); }

  // Copies a contract of tests/data/contracts/run to contracts/ of this folder.
  void add_contract(const std::string& name) const {
    write_text(folder() / "contracts" / name,
               read_text(std::filesystem::path(REFUTE_TEST_DATA) / "contracts/run" / name));
  }

  // `refute ARGUMENTS`, as the shell reads them; `before` stands in front.
  CommandResult run(const std::string& arguments, const std::string& before = "") const {
    const auto out = folder() / "stdout.txt";
    const auto err = folder() / "stderr.txt";
    const std::string command = "cd '" + folder().string() + "' && " + before + " '" +
                                REFUTE_BINARY + "' " + arguments + " >stdout.txt 2>stderr.txt";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(out), read_text(err)};
  }

 private:
  TestFolder folder_;
};

}  // namespace refute
