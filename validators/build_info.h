// Which build this binary is: what every record and `refute --version` says.
#pragma once

#include <string_view>

namespace refute {

struct BuildInfo {
  std::string_view version;  // "0.1.0"
  // sha256 over the lines "<sha256 of contents>  <path>" of every source file of kernels/, engine/
  // and falsifiers/, sorted by path: what `sha256sum FILES | sha256sum` prints in the source tree.
  std::string_view tree_sha256;
  std::string_view compiler;    // "GNU 12.2.0"
  std::string_view flags;       // Those of every translation unit of ours.
  std::string_view build_type;  // "RelWithDebInfo"
};

const BuildInfo& build_info();

}  // namespace refute
