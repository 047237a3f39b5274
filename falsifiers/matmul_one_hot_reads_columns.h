// matmul.one_hot_reads_columns: see the first comment of the source file.
#pragma once

#include "falsifiers/falsifier.h"

namespace refute {

Verdict falsify_one_hot_reads_columns(const Subject& subject, const Criterion& criterion);

const FalsifierInfo& matmul_one_hot_reads_columns_info();

}  // namespace refute
