// Dense row-major matrices in host memory: a borrowing view and an owner.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/check.h"

namespace refute {

// Borrows [rows, columns] elements, row-major and contiguous, in host memory.
template <typename T>
struct MatrixView {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t columns = 0;

  MatrixView() = default;
  MatrixView(T* data_in, std::size_t rows_in, std::size_t columns_in)
      : data(data_in), rows(rows_in), columns(columns_in) {}
  // A mutable view converts to a const one.
  template <typename U>
  requires std::is_same_v<const U, T> MatrixView(MatrixView<U> other)
      : data(other.data), rows(other.rows), columns(other.columns) {}

  std::size_t size() const { return rows * columns; }
  std::span<T> row(std::size_t r) const {
    CHECK(r < rows);
    return {data + r * columns, columns};
  }
  std::span<T> flat() const { return {data, size()}; }
};

// Leaves new elements as they are where the standard one would zero them.
template <typename T>
struct MatrixAllocator : std::allocator<T> {
  MatrixAllocator() = default;
  template <typename U>
  MatrixAllocator(const MatrixAllocator<U>&) {}
  template <typename U>
  struct rebind {
    using other = MatrixAllocator<U>;
  };
  template <typename U>
  void construct(U* element) {
    ::new (static_cast<void*>(element)) U;
  }
  template <typename U, typename Value>
  void construct(U* element, Value&& value) {
    ::new (static_cast<void*>(element)) U(std::forward<Value>(value));
  }
};

// Owns [rows, columns] elements, zero-initialised unless asked otherwise.
template <typename T>
class Matrix {
 public:
  Matrix() = default;
  Matrix(std::size_t rows, std::size_t columns)
      : rows_(rows), columns_(columns), values_(rows * columns, T{}) {}
  Matrix(std::size_t rows, std::size_t columns, const std::vector<T>& values)
      : rows_(rows), columns_(columns), values_(values.begin(), values.end()) {
    CHECK(values_.size() == rows_ * columns_);
  }
  // For who writes all elements before anyone reads one.
  static Matrix uninitialized(std::size_t rows, std::size_t columns) {
    Matrix matrix;
    matrix.rows_ = rows;
    matrix.columns_ = columns;
    matrix.values_.resize(rows * columns);
    return matrix;
  }

  std::size_t rows() const { return rows_; }
  std::size_t columns() const { return columns_; }
  std::size_t size() const { return values_.size(); }
  T* data() { return values_.data(); }
  const T* data() const { return values_.data(); }
  T& operator()(std::size_t r, std::size_t c) { return values_[r * columns_ + c]; }
  const T& operator()(std::size_t r, std::size_t c) const { return values_[r * columns_ + c]; }
  std::span<T> row(std::size_t r) { return view().row(r); }
  std::span<const T> row(std::size_t r) const { return view().row(r); }
  std::span<T> flat() { return values_; }
  std::span<const T> flat() const { return values_; }
  MatrixView<T> view() { return {values_.data(), rows_, columns_}; }
  MatrixView<const T> view() const { return {values_.data(), rows_, columns_}; }

 private:
  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  std::vector<T, MatrixAllocator<T>> values_;
};

// A copy of the last row as a matrix of one row. Precondition: there is one.
template <typename T>
Matrix<T> last_row(const Matrix<T>& matrix) {
  CHECK(matrix.rows() > 0);
  const auto row = matrix.row(matrix.rows() - 1);
  return Matrix<T>(1, matrix.columns(), {row.begin(), row.end()});
}

}  // namespace refute
