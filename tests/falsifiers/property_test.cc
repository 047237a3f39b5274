#include "falsifiers/property.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "falsifiers/replay_token.h"

namespace refute {
namespace {

constexpr std::array<MetricInfo, 1> kMetrics = {{{"excess", "Elements over 10.", false, 10.0}}};
constexpr PropertySpec kSpec = {"test.subject", "stays_small"};

// Fails for every n above 10.
void grows(PropertyCase& property_case) {
  const std::size_t n = property_case.integer("n", 0, 1000);
  const bool doubled = property_case.flag("doubled");
  property_case.measure("excess", static_cast<double>(doubled ? 2 * n : n), "here");
}

TEST(Property, HoldsOverTheNumberOfCasesAskedFor) {
  Criterion criterion;
  criterion.cases = 37;
  Judge judge(kMetrics, criterion);
  const auto result = check_property(kSpec, criterion, &judge, [](PropertyCase& property_case) {
    property_case.measure("excess", static_cast<double>(property_case.integer("n", 3, 9)), "here");
  });
  EXPECT_EQ(result.cases, 37u);
  EXPECT_EQ(result.failed, 0u);
  EXPECT_TRUE(judge.verdict().held()) << judge.verdict().reason;
  EXPECT_EQ(judge.verdict().cases_run, 37u);
  EXPECT_LE(judge.verdict().metrics[0].worst, 9.0);
}

TEST(Property, ShrinksAFailureToTheMinimalCase) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    Criterion criterion;
    criterion.seed = seed;
    Judge judge(kMetrics, criterion);
    const auto result = check_property(kSpec, criterion, &judge, grows);
    EXPECT_EQ(result.failed, 1u);
    const bool minimal = result.counterexample.starts_with("n = 11, doubled = false:") ||
                         result.counterexample.starts_with("n = 6, doubled = true:");
    EXPECT_TRUE(minimal) << result.counterexample;
    const Verdict verdict = judge.verdict();
    EXPECT_EQ(verdict.kind, VerdictKind::kRefuted);
    EXPECT_EQ(verdict.counterexample, result.counterexample);
    EXPECT_EQ(verdict.replay_token, result.replay_token);
    EXPECT_EQ(verdict.cases_failed, 1u);
  }
}

TEST(Property, AReplayTokenReproducesExactlyThatCase) {
  Criterion criterion;
  Judge judge(kMetrics, criterion);
  const auto found = check_property(kSpec, criterion, &judge, grows);
  ASSERT_FALSE(found.replay_token.empty());

  Criterion replay;
  replay.replay = found.replay_token;
  Judge replay_judge(kMetrics, replay);
  const auto again = check_property(kSpec, replay, &replay_judge, grows);
  EXPECT_EQ(again.cases, 1u);
  EXPECT_EQ(again.failed, 1u);
  EXPECT_EQ(again.counterexample, found.counterexample);
  EXPECT_EQ(again.replay_token, found.replay_token);
  EXPECT_EQ(replay_judge.verdict().kind, VerdictKind::kRefuted);
}

TEST(Property, AReplayOfWhatIsRightNowHolds) {
  Criterion criterion;
  Judge judge(kMetrics, criterion);
  criterion.replay = check_property(kSpec, criterion, &judge, grows).replay_token;
  Judge replay_judge(kMetrics, criterion);
  const auto result = check_property(kSpec, criterion, &replay_judge,
                                     [](PropertyCase& fixed) { fixed.integer("n", 0, 1000); });
  EXPECT_EQ(result.cases, 1u);
  EXPECT_TRUE(replay_judge.verdict().held()) << replay_judge.verdict().reason;
}

TEST(Property, AReplayLeavesOtherPropertiesAlone) {
  Criterion criterion;
  criterion.replay = "test.subject/another@12.100";
  Judge judge(kMetrics, criterion);
  const auto result = check_property(kSpec, criterion, &judge, grows);
  EXPECT_EQ(result.cases, 0u);
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kGaveUp);
}

TEST(Property, ABrokenReplayTokenIsAnError) {
  for (const char* token :
       {"", "nonsense", "test.subject/stays_small@", "test.subject/stays_small@x.1",
        "test.subject/stays_small@12", "test.subject/stays_small@12.1.y",
        "test.subject/stays_small@12.100.99999999"}) {
    Criterion criterion;
    criterion.replay = token;
    Judge judge(kMetrics, criterion);
    check_property(kSpec, criterion, &judge, grows);
    EXPECT_EQ(judge.verdict().kind, VerdictKind::kError) << token;
  }
}

TEST(Property, ATokenNamesItsFalsifierInUrlSafeText) {
  Criterion criterion;
  Judge judge(kMetrics, criterion);
  const auto found = check_property(kSpec, criterion, &judge, grows);
  EXPECT_EQ(falsifier_of_replay_token(found.replay_token), "test.subject");
  EXPECT_EQ(found.replay_token.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._/@:"),
            std::string::npos)
      << found.replay_token;
  EXPECT_LT(found.replay_token.size(), 120u);
  EXPECT_EQ(falsifier_of_replay_token("nothing"), std::nullopt);
  EXPECT_EQ(falsifier_of_replay_token("a@b/c"), std::nullopt);
}

TEST(Property, IsTheSameForTheSameSeedAndAnotherForAnother) {
  const auto draw = [](std::uint64_t seed) {
    std::vector<std::size_t> drawn;
    Criterion criterion;
    criterion.seed = seed;
    criterion.cases = 10;
    Judge judge({}, criterion);
    check_property(kSpec, criterion, &judge, [&drawn](PropertyCase& property_case) {
      drawn.push_back(property_case.integer("n", 0, 1000000));
    });
    return drawn;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
}

TEST(Property, WithoutShrinkingReportsTheCaseAsFound) {
  Criterion criterion;
  criterion.shrink = false;
  Judge judge(kMetrics, criterion);
  const auto found = check_property(kSpec, criterion, &judge, grows);
  EXPECT_EQ(found.failed, 1u);
  const auto token = parse_replay_token(found.replay_token);
  ASSERT_TRUE(token);
  EXPECT_EQ(token->property, "test.subject/stays_small");
  EXPECT_TRUE(token->address.shrink_path.empty());
}

TEST(Property, FewerCasesAreRoundedUp) {
  Criterion criterion;
  criterion.cases = 9;
  EXPECT_EQ(with_fewer_cases(criterion, 4).cases, 3u);
  criterion.cases = 1;
  EXPECT_EQ(with_fewer_cases(criterion, 4).cases, 1u);
}

TEST(Property, GivesUpWhenTooMuchIsDiscarded) {
  Criterion criterion;
  criterion.cases = 10;
  Judge judge(kMetrics, criterion);
  const auto result = check_property(kSpec, criterion, &judge,
                                     [](PropertyCase& property_case) { property_case.discard(); });
  EXPECT_TRUE(result.gave_up);
  EXPECT_GT(result.discarded, 100u);
  EXPECT_EQ(result.cases, 0u);
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kGaveUp);
}

TEST(Property, GivesUpWhenTooFewCasesCouldHaveFailed) {
  Criterion criterion;
  Judge judge(kMetrics, criterion);
  const PropertySpec guarded = {"test.subject", "guarded", 0.5};
  const auto result = check_property(guarded, criterion, &judge, [](PropertyCase& property_case) {
    property_case.measure("excess", 0.0, "here");
    if (property_case.pick("k", std::array{1, 2, 3, 4, 5, 6, 7, 8}) == 8) {
      property_case.mark_interesting();
    }
  });
  EXPECT_TRUE(result.gave_up);
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kGaveUp);
}

TEST(Property, ZeroCasesNeverHold) {
  Criterion criterion;
  criterion.cases = 0;
  Judge judge({}, criterion);
  check_property(kSpec, criterion, &judge, [](PropertyCase&) {});
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kGaveUp);
}

TEST(Property, AnExceptionIsAnErrorAndNotAPass) {
  Criterion criterion;
  Judge judge({}, criterion);
  check_property(kSpec, criterion, &judge,
                 [](PropertyCase&) { throw std::runtime_error("out of luck"); });
  EXPECT_EQ(judge.verdict().kind, VerdictKind::kError);
  EXPECT_NE(judge.verdict().reason.find("out of luck"), std::string::npos);
}

TEST(Property, DrawsStayInRangeAndCoverIt) {
  std::set<std::size_t> picks;
  std::set<int> values;
  Criterion criterion;
  criterion.cases = 200;
  Judge judge({}, criterion);
  check_property(kSpec, criterion, &judge, [&](PropertyCase& property_case) {
    picks.insert(property_case.pick("k", std::array<std::size_t, 3>{1, 8, 128}));
    const std::size_t count = property_case.integer("count", 1, 9);
    const auto drawn = property_case.integers("values", count, -2, 2);
    property_case.require(drawn.size() == count, "the count is off");
    values.insert(drawn.begin(), drawn.end());
  });
  EXPECT_TRUE(judge.verdict().held()) << judge.verdict().reason;
  EXPECT_EQ(picks, (std::set<std::size_t>{1, 8, 128}));
  EXPECT_EQ(values, (std::set<int>{-2, -1, 0, 1, 2}));
}

TEST(Property, ListsShrinkElementByElementTowardsZero) {
  Criterion criterion;
  Judge judge({}, criterion);
  const auto result = check_property(kSpec, criterion, &judge, [](PropertyCase& property_case) {
    for (const int value : property_case.integers("values", 5, -50, 50)) {
      property_case.require(value < 17, "too large");
    }
  });
  std::string values = result.counterexample;
  for (std::size_t zero = values.find("0 "); zero != std::string::npos; zero = values.find("0 ")) {
    values.erase(zero, 2);
  }
  EXPECT_TRUE(values.starts_with("values = [17")) << result.counterexample;
  EXPECT_TRUE(values.ends_with("]: too large")) << result.counterexample;
}

TEST(PinnedProperty, TriesEachIndexOnceAndReplaysOne) {
  Criterion criterion;
  criterion.cases = 1;
  Judge judge({}, criterion);
  std::vector<std::size_t> tried;
  const PinnedBody body = [&tried](PropertyCase& property_case, std::size_t index) {
    tried.push_back(index);
    property_case.require(index != 5, "five");
  };
  const auto held = check_pinned(kSpec, criterion, &judge, 4, body);
  EXPECT_EQ(held.cases, 4u);
  EXPECT_EQ(tried, (std::vector<std::size_t>{0, 1, 2, 3}));
  EXPECT_TRUE(judge.verdict().held());

  const auto failed = check_pinned(kSpec, criterion, &judge, 8, body);
  EXPECT_EQ(failed.failed, 1u);
  Criterion replay;
  replay.replay = failed.replay_token;
  Judge replay_judge({}, replay);
  tried.clear();
  const auto again = check_pinned(kSpec, replay, &replay_judge, 8, body);
  EXPECT_EQ(again.cases, 1u);
  EXPECT_EQ(again.failed, 1u);
  EXPECT_EQ(std::set<std::size_t>(tried.begin(), tried.end()), std::set<std::size_t>{5});
}

}  // namespace
}  // namespace refute
