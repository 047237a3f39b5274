#include <CLI/CLI.hpp>

#include "validators/commands/command.h"
#include "validators/report.h"
#include "validators/schema.h"

namespace refute {
namespace {

class SchemaCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand("schema", "Print the JSON Schema of contracts");
    command->footer(
        "\nExample:\n"
        "  refute schema > contracts/schema/contract.schema.json");
    return command;
  }

  ExitCode execute() override {
    print(contract_schema());
    return ExitCode::kHeld;
  }
};

}  // namespace

std::unique_ptr<Command> make_schema_command() { return std::make_unique<SchemaCommand>(); }

}  // namespace refute
