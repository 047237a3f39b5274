#include "validators/named_backend.h"

#include <utility>
#include <vector>

#include "engine/trace_file.h"
#include "validators/suggest.h"

namespace refute {

NamedBackend::NamedBackend(std::string_view name, Backends all)
    : name_(name), all_(std::move(all)) {}

Result<NamedBackend> NamedBackend::create(std::string_view name, std::size_t num_threads,
                                          std::optional<cpu::Isa> isa, const CudaOptions& cuda) {
  const auto id = parse_backend(name);
  if (!id && name != kEmulatedOracleBackend) {
    std::vector<std::string_view> names = {kEmulatedOracleBackend};
    for (const BackendId known : kAllBackends) names.push_back(backend_name(known));
    return Error{ErrorKind::kUnsupported, "--backend", "a backend (" + suggest(name, names) + ")",
                 "`" + std::string(name) + "`"};
  }
  Result<Backends> backends = Backends::create(num_threads, isa, cuda);
  if (!backends) return backends.error();
  NamedBackend named(name, *std::move(backends));
  if (!id) {
    named.emulated_ = make_oracle_backend(ActivationScheme::kEmulatedInt8);
    named.backend_ = named.emulated_.get();
    return named;
  }
  const BackendSlot& slot = named.all_.of(*id);
  if (!slot.backend) {
    return Error{ErrorKind::kNoDevice, "--backend " + std::string(name), "a backend of this build",
                 slot.unavailable};
  }
  named.backend_ = slot.backend.get();
  return named;
}

}  // namespace refute
