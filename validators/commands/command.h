// The subcommands of `refute`: each parses its own options and prints its own results.
#pragma once

#include <memory>
#include <vector>

#include "validators/exit_code.h"

namespace CLI {
class App;
}

namespace refute {

class Command {
 public:
  virtual ~Command() = default;
  // Declares the subcommand and its options, which are kept in this object, so it must outlive
  // `app`. Returns the subcommand.
  virtual CLI::App* declare(CLI::App& app) = 0;
  // Runs what was parsed, and prints.
  virtual ExitCode execute() = 0;
};

std::unique_ptr<Command> make_validate_command();
std::unique_ptr<Command> make_run_command();
std::unique_ptr<Command> make_status_command();
std::unique_ptr<Command> make_generate_command();
std::unique_ptr<Command> make_synth_command();
std::unique_ptr<Command> make_trace_command();
std::unique_ptr<Command> make_compare_command();
std::unique_ptr<Command> make_bench_command();
std::unique_ptr<Command> make_explain_command();
std::unique_ptr<Command> make_list_command();
std::unique_ptr<Command> make_doctor_command();
std::unique_ptr<Command> make_schema_command();
// Not in the library: `refute` has one that hands over to refute-selftest, which has the real one.
std::unique_ptr<Command> make_selftest_command();

// All but selftest, in the order of the help text.
std::vector<std::unique_ptr<Command>> make_commands();

}  // namespace refute
