#include "engine/weight_scan.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/gguf_format.h"
#include "engine/read_ahead.h"
#include "kernels/cpu/context.h"

namespace refute {
namespace {

// Rows of one tensor that one thread scans at a time.
struct Piece {
  std::size_t tensor;
  std::size_t begin;
  std::size_t end;
};

struct Place {
  std::size_t tensor;
  std::size_t row;

  auto operator<=>(const Place&) const = default;
};

// In the order of the file.
std::vector<Piece> pieces_of(std::span<const ScannedTensor> tensors) {
  constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
  std::vector<Piece> pieces;
  for (std::size_t tensor = 0; tensor < tensors.size(); ++tensor) {
    const WeightView& rows = tensors[tensor].rows;
    const std::size_t runs = kPieceBytes / (kScannedRows * rows.bytes_per_row());
    const std::size_t step = kScannedRows * std::max<std::size_t>(1, runs);
    for (std::size_t begin = 0; begin < rows.rows; begin += step) {
      pieces.push_back({tensor, begin, std::min(begin + step, rows.rows)});
    }
  }
  std::ranges::sort(
      pieces, {}, [&](const Piece& piece) { return tensors[piece.tensor].rows.row(piece.begin); });
  return pieces;
}

std::optional<Place> first_non_finite(const ScannedTensor& tensor, const Piece& piece) {
  for (std::size_t row = piece.begin; row < piece.end; ++row) {
    if (!row_scales_are_finite(tensor.rows.type, tensor.rows.row(row), tensor.rows.columns)) {
      return Place{piece.tensor, row};
    }
  }
  return std::nullopt;
}

}  // namespace

Result<void> check_scales(const std::string& file, std::span<const std::byte> mapped,
                          std::span<const ScannedTensor> tensors, std::size_t num_threads,
                          const RowsScanned& scanned) {
  const std::vector<Piece> pieces = pieces_of(tensors);
  ReadAhead ahead(mapped);
  // Threads take piece by piece, so that all of them are where the file is being read.
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  std::optional<Place> first;  // Guarded by mutex.
  const cpu::ThreadPool threads(num_threads);
  threads.parallel_for(num_threads, 1, [&](std::size_t, std::size_t) {
    for (std::size_t i; (i = next.fetch_add(1)) < pieces.size();) {
      const ScannedTensor& tensor = tensors[pieces[i].tensor];
      ahead.wait_for(tensor.rows.row(pieces[i].begin) +
                     (pieces[i].end - pieces[i].begin) * tensor.rows.bytes_per_row());
      const std::optional<Place> found = first_non_finite(tensor, pieces[i]);
      if (!found) {
        if (scanned) scanned(tensor, pieces[i].begin, pieces[i].end);
        continue;
      }
      const std::lock_guard lock(mutex);
      if (!first || *found < *first) first = found;
    }
  });
  if (!first) return {};

  const ScannedTensor& tensor = tensors[first->tensor];
  std::string where = file + ": tensor " + quoted_name(tensor.name);
  std::size_t row = first->row;
  if (tensor.rows_per_expert > 0) {
    where += " expert " + std::to_string(row / tensor.rows_per_expert);
    row %= tensor.rows_per_expert;
  }
  return Error{ErrorKind::kNonFinite, where + " row " + std::to_string(row), "finite scales",
               "NaN or Inf"};
}

}  // namespace refute
