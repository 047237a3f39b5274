#include "validators/commands/command.h"

namespace refute {

std::vector<std::unique_ptr<Command>> make_commands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(make_validate_command());
  commands.push_back(make_run_command());
  commands.push_back(make_status_command());
  commands.push_back(make_trace_command());
  commands.push_back(make_compare_command());
  commands.push_back(make_bench_command());
  commands.push_back(make_generate_command());
  commands.push_back(make_synth_command());
  commands.push_back(make_explain_command());
  commands.push_back(make_list_command());
  commands.push_back(make_doctor_command());
  commands.push_back(make_schema_command());
  return commands;
}

}  // namespace refute
