#include "validators/selftest/worker_pool.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <string>

namespace refute {
namespace {

std::string misbehave(const std::string& task) {
  if (task == "crash") std::raise(SIGSEGV);
  if (task == "abort") std::abort();
  if (task == "exit") std::_Exit(7);
  while (task == "hang") pause();
  return "done " + task;
}

std::map<std::string, TaskResult> work_off(std::size_t workers, std::deque<std::string> tasks) {
  WorkerPool pool(workers, std::chrono::milliseconds(300), misbehave);
  std::map<std::string, TaskResult> results;
  pool.run(tasks, [&](const std::string& task, const TaskResult& result) {
    EXPECT_TRUE(results.emplace(task, result).second) << task << " ended twice";
  });
  return results;
}

TEST(WorkerPool, EndsEveryTaskOnceHoweverManyWorkers) {
  std::deque<std::string> tasks;
  for (int i = 0; i < 20; ++i) tasks.push_back(std::to_string(i));
  for (const std::size_t workers : {1, 2, 5, 30}) {
    const auto results = work_off(workers, tasks);
    ASSERT_EQ(results.size(), tasks.size());
    for (const auto& [task, result] : results) {
      EXPECT_EQ(result.end, TaskEnd::kDone);
      EXPECT_EQ(result.text, "done " + task);
    }
  }
}

TEST(WorkerPool, GoesOnAfterACrashAndAHang) {
  const auto results = work_off(1, {"crash", "a", "hang", "b", "abort", "exit", "c"});
  ASSERT_EQ(results.size(), 7u);
  EXPECT_EQ(results.at("crash").end, TaskEnd::kCrashed);
  EXPECT_EQ(results.at("abort").end, TaskEnd::kCrashed);
  EXPECT_EQ(results.at("exit").end, TaskEnd::kCrashed);
  EXPECT_NE(results.at("exit").text.find("7"), std::string::npos);
  EXPECT_EQ(results.at("hang").end, TaskEnd::kTimedOut);
  for (const char* task : {"a", "b", "c"}) EXPECT_EQ(results.at(task).end, TaskEnd::kDone);
}

TEST(WorkerPool, WorksOnTasksThatResultsAdd) {
  WorkerPool pool(2, std::chrono::milliseconds(300), misbehave);
  std::deque<std::string> tasks = {"first"};
  std::size_t ended = 0;
  pool.run(tasks, [&](const std::string& task, const TaskResult&) {
    ++ended;
    if (task == "first") tasks.insert(tasks.end(), {"second", "third"});
  });
  EXPECT_EQ(ended, 3u);
}

TEST(WorkerPool, CarriesLongAndBinaryTexts) {
  WorkerPool pool(1, std::chrono::milliseconds(5000),
                  [](const std::string& task) { return task + task; });
  const std::string text = std::string(1 << 20, '\0') + "\n\xff";
  std::deque<std::string> tasks = {text};
  std::string answer;
  pool.run(tasks, [&](const std::string&, const TaskResult& result) { answer = result.text; });
  EXPECT_EQ(answer, text + text);
}

}  // namespace
}  // namespace refute
