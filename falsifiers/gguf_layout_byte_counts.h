// gguf_layout.byte_counts: claim, reasons and limits are in the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

const FalsifierInfo& gguf_layout_byte_counts_info();
Verdict falsify_gguf_layout_byte_counts(const Subject& subject, const Criterion& criterion);

}  // namespace refute
