// Reads a mapped file ahead of who looks at it.
//
//   ReadAhead ahead(file.bytes());
//   for (piece : pieces_in_order) {
//     ahead.wait_for(piece.end);
//     look_at(piece);
//   }
#pragma once

#include <atomic>
#include <cstddef>
#include <span>
#include <thread>

namespace refute {

// A thread of its own asks the system for the file in order and in large pieces, which a disk
// answers several times faster than one page fault after the other, and has them mapped. It stays a
// bounded number of bytes ahead of what was waited for, so a file may be larger than the memory.
// Where the system cannot do it, nothing is read ahead. Little files have no such thread.
class ReadAhead {
 public:
  // `mapped` starts at a page.
  explicit ReadAhead(std::span<const std::byte> mapped);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  // Returns when everything before `end`, a place in the file, was read, or when nothing is read
  // ahead any more. Any number of threads may call it.
  void wait_for(const std::byte* end);

 private:
  void read();

  std::span<const std::byte> mapped_;
  std::atomic<std::size_t> read_ = 0;    // Bytes from the beginning; all of them where it ended.
  std::atomic<std::size_t> wanted_ = 0;  // The farthest that anyone waited for.
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace refute
