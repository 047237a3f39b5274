#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <nlohmann/json.hpp>

#include "kernels/cpu/context.h"
#include "validators/build_info.h"
#include "validators/commands/command.h"
#include "validators/commands/shared_options.h"
#include "validators/embedded_files.h"
#include "validators/host.h"
#include "validators/run.h"

namespace refute {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kFormats = {Format::kHuman, Format::kJson};
constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;

std::string joined(std::span<const std::string> parts, const char* none) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text.empty() ? none : text;
}

// What there is of a device, for a backend that is not in this build.
std::string device_of(BackendId id, const HostInfo& host) {
  if (id == BackendId::kCuda) {
    if (host.nvidia_driver.empty()) return "no NVIDIA driver here";
    return joined(host.nvidia_devices, "no NVIDIA device here") + ", " + host.nvidia_driver;
  }
  return joined(host.render_nodes, "no render node here");
}

struct Diagnosis {
  HostInfo host;
  Backends backends;
};

// What stays unverified on this machine with this build.
std::vector<std::string> consequences(const Diagnosis& diagnosis) {
  std::vector<std::string> lines;
  for (const BackendId id : kAllBackends) {
    const BackendSlot& slot = diagnosis.backends.of(id);
    if (slot.backend) continue;
    lines.push_back(fmt::format("{}: {} ({}); every criterion on it is not run", backend_name(id),
                                slot.unavailable, device_of(id, diagnosis.host)));
  }
  return lines;
}

std::string isa_list() {
  std::string text;
  for (const cpu::Isa isa : cpu::supported_isas()) {
    text += (text.empty() ? "" : ", ") + std::string(cpu::isa_name(isa));
  }
  return text;
}

std::string render_human(const Diagnosis& diagnosis, Style style) {
  const HostInfo& host = diagnosis.host;
  const BuildInfo& build = build_info();
  std::string text;
  const auto line = [&](const char* label, const std::string& value) {
    text += fmt::format("{:<22} {}\n", label, value);
  };
  line("refute", fmt::format("{} (tree {})", build.version, build.tree_sha256.substr(0, 12)));
  line("compiler", fmt::format("{}, {}: {}", build.compiler, build.build_type, build.flags));
  line("processor", host.processor);
  line("vector features", joined(host.features, "none of those used"));
  line("instruction sets", isa_list());
  line("chosen", std::string(cpu::isa_name(cpu::best_isa())));
  line("processors", std::to_string(host.processors));
  line("memory", fmt::format("{:.1f} GiB, {:.1f} GiB available",
                             static_cast<double>(host.memory_bytes) / kGibibyte,
                             static_cast<double>(host.free_memory_bytes) / kGibibyte));
  line("operating system", host.operating_system);
  line("embedded subject",
       fmt::format("{} ({} bytes, sha256 {})", kEmbeddedSubjectName, embedded_model().size(),
                   embedded_model_sha256().substr(0, 12)));
  text += "\nBackends:\n";
  for (const BackendId id : kAllBackends) {
    const BackendSlot& slot = diagnosis.backends.of(id);
    text += fmt::format("  {:<8} {}\n", backend_name(id),
                        slot.backend ? paint(style, Paint::kGood, slot.backend->description())
                                     : paint(style, Paint::kWarning, slot.unavailable));
  }
  text += "\nStays unverified here:\n";
  for (const std::string& consequence : consequences(diagnosis))
    text += "  - " + consequence + "\n";
  return text;
}

std::string render_json(const Diagnosis& diagnosis) {
  const HostInfo& host = diagnosis.host;
  const BuildInfo& build = build_info();
  Json backends = Json::array();
  for (const BackendId id : kAllBackends) {
    const BackendSlot& slot = diagnosis.backends.of(id);
    backends.push_back({{"id", backend_name(id)},
                        {"available", slot.backend != nullptr},
                        {"description", slot.backend ? slot.backend->description() : ""},
                        {"reason", slot.unavailable}});
  }
  const Json json = {{"command", "doctor"},
                     {"version", build.version},
                     {"tree_sha256", build.tree_sha256},
                     {"compiler", build.compiler},
                     {"flags", build.flags},
                     {"build_type", build.build_type},
                     {"processor", host.processor},
                     {"vector_features", host.features},
                     {"instruction_set", cpu::isa_name(cpu::best_isa())},
                     {"processors", host.processors},
                     {"memory_bytes", host.memory_bytes},
                     {"free_memory_bytes", host.free_memory_bytes},
                     {"operating_system", host.operating_system},
                     {"nvidia_driver", host.nvidia_driver},
                     {"nvidia_devices", host.nvidia_devices},
                     {"render_nodes", host.render_nodes},
                     {"subject_sha256", embedded_model_sha256()},
                     {"backends", backends},
                     {"stays_unverified", consequences(diagnosis)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

class DoctorCommand : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command = app.add_subcommand(
        "doctor", "Say what this machine can run, and what that leaves unverified");
    add_format(*command, formats_, kFormats);
    command->footer(
        "\nExamples:\n"
        "  refute doctor\n"
        "  refute doctor --format json");
    return command;
  }

  ExitCode execute() override {
    const Result<std::vector<Output>> outputs = parse_outputs(formats_, kFormats);
    if (!outputs) return fail(outputs.error());
    Result<Backends> backends = Backends::create(0);
    if (!backends) return fail(backends.error());
    const Diagnosis diagnosis{read_host_info(), *std::move(backends)};
    return finish(
        *outputs,
        [&](Format format, Style style) {
          return format == Format::kJson ? render_json(diagnosis) : render_human(diagnosis, style);
        },
        ExitCode::kHeld);
  }

 private:
  std::vector<std::string> formats_;
};

}  // namespace

std::unique_ptr<Command> make_doctor_command() { return std::make_unique<DoctorCommand>(); }

}  // namespace refute
