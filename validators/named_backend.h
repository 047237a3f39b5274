// A backend by the name that people and traces give it.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/backend.h"
#include "engine/cuda_options.h"
#include "kernels/result.h"
#include "validators/run.h"

namespace refute {

class NamedBackend {
 public:
  // kUnsupported, with a suggestion, for a name that is none of "oracle", "oracle-emulated", "cpu",
  // "cuda" and "wgpu"; kNoDevice, with the reason, when this build or machine does not have it.
  // num_threads 0 takes the number of processors; isa and cuda as in Backends::create.
  static Result<NamedBackend> create(std::string_view name, std::size_t num_threads,
                                     std::optional<cpu::Isa> isa = {},
                                     const CudaOptions& cuda = {});

  const std::string& name() const { return name_; }
  const Backend& operator*() const { return *backend_; }
  const Backend* operator->() const { return backend_; }

 private:
  NamedBackend(std::string_view name, Backends all);

  std::string name_;
  Backends all_;
  std::unique_ptr<Backend> emulated_;
  const Backend* backend_ = nullptr;
};

}  // namespace refute
