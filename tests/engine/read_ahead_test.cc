#include "engine/read_ahead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "engine/mapped_file.h"
#include "engine/memory_file.h"

namespace refute {
namespace {

MappedFile mapped(std::size_t bytes) {
  std::vector<std::byte> content(bytes);
  for (std::size_t i = 0; i < bytes; i += 4096) content[i] = static_cast<std::byte>(i / 4096 % 251);
  const MemoryFile file = MemoryFile::create("read-ahead", content).value();
  return MappedFile::open(file.path()).value();
}

constexpr std::size_t kLarge = (std::size_t{70} << 20) + 123;  // With a thread of its own.

TEST(ReadAhead, IsThereForEveryoneWhoWaits) {
  for (const std::size_t bytes : {std::size_t{5000}, kLarge}) {
    const MappedFile file = mapped(bytes);
    ReadAhead ahead(file.bytes());
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t at = 4096 * t; at < bytes; at += 3 * 4096) {
          ahead.wait_for(file.bytes().data() + std::min(at + 4096, bytes));
          EXPECT_EQ(file.bytes()[at], static_cast<std::byte>(at / 4096 % 251));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(ReadAhead, EndsThoughNobodyWaited) {
  const MappedFile file = mapped(kLarge);
  ReadAhead ahead(file.bytes());
}

TEST(ReadAhead, WaitsForNothingBehindTheEnd) {
  for (const std::size_t bytes : {std::size_t{5000}, kLarge}) {
    const MappedFile file = mapped(bytes);
    ReadAhead ahead(file.bytes());
    ahead.wait_for(file.bytes().data() + bytes + 1);
  }
}

TEST(ReadAhead, LetsGoWhereThereIsNothingToRead) {
  const MappedFile file = mapped(4096);
  // No pages of the file lie behind its end: asking for them fails.
  ReadAhead ahead({file.bytes().data(), kLarge});
  ahead.wait_for(file.bytes().data() + kLarge);
}

}  // namespace
}  // namespace refute
